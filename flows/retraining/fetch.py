"""New data: what DVC knows to fetch is fetched, and what was given is versioned beside what is made of it."""

import logging
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo

from flows import git
from tasks.core.errors import PassingFault
from tasks.sources import cache_dir, fetch, is_local


def fetched(root: Path, source: str) -> Path:
    """The data of a recipe, as new as they are to be had. The caller holds the workspace.

    Data that `dvc import` or `dvc import-url` brought are brought again if there are newer ones; data that `dvc add`
    versioned come from the DVC remote, if their .dvc file names others than lie here. A path is taken as it lies there.

    Args:
        root: The workspace.
        source: `data.source` of the recipe.

    Raises:
        PassingFault: DVC's remote, the network or the disk failed.
        UserError: There are no such data.
    """
    file = root / f"{source}.dvc"
    if is_local(source) and file.is_file():
        repo = _repo(root)
        try:
            (stage,) = repo.stage.load_file(str(file))
            if stage.is_import:
                repo.update([str(file)])
            elif repo.config["core"].get("remote") and _older(repo, stage):
                repo.pull([str(file)])
        except DvcException as error:
            raise PassingFault(f"dvc could not fetch {source}: {error}") from error
    return fetch(source, cache_dir(), root, "data")


def kept(root: Path, source: str) -> tuple[str, ...]:
    """Versions the data of a recipe: in git if git has them, otherwise by DVC; the files that a commit must hold.

    Raises:
        PassingFault: DVC failed.
    """
    path = Path(source)
    if not is_local(source) or path.is_absolute() or ".." in path.parts:
        return ()  # a pinned source, or one that lies outside
    if git.tracks(root, source):
        return (path.as_posix(),)
    repo, file = _repo(root), f"{path.as_posix()}.dvc"
    try:
        if not (root / file).is_file():
            repo.add([str(root / path)])
        elif repo.status(targets=[str(root / file)]):
            repo.commit(str(root / file), force=True)
    except DvcException as error:
        raise PassingFault(f"dvc could not version {source}: {error}") from error
    ignored = (path.parent / ".gitignore").as_posix()
    return (file, ignored) if (root / ignored).is_file() else (file,)


def _repo(root: Path) -> Repo:
    logging.getLogger("dvc").setLevel(logging.CRITICAL)  # above ERROR it says nothing; it raises anyway
    return Repo(str(root), _wait_for_lock=True)


def _older(repo: Repo, stage: Any) -> bool:
    """Whether an earlier version lies there than the .dvc file names; data that DVC does not know are new ones."""
    (out,) = stage.outs
    if not out.exists:
        return True
    here = out.get_hash()
    return bool(here != out.hash_info and repo.cache.local.exists(here.value))
