"""What the champion is and learned from: its files as they were registered, and its prepared data."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo

from flows.lineage.find import found
from flows.lineage.records import MODELS, Records
from flows.lineage.state import link
from tasks.core.errors import EnvironmentFault, PassingFault
from tasks.core.files import tree_hash

PREPARED = "data/prepared"


@contextmanager
def files(records: Records, version: Any) -> Iterator[Path]:
    """The files of a registered version, certain to be those that were registered.

    Raises:
        EnvironmentFault: They are not.
    """
    with tempfile.TemporaryDirectory() as directory:
        there = Path(records.download(version, directory))
        if tree_hash(there) != version.tags.get("sha256"):
            raise EnvironmentFault(f"the files of {version.name} version {version.version} are not those registered")
        yield there


@contextmanager
def data(root: Path, name: str, version: str) -> Iterator[Path]:
    """The prepared data that a registered version learned from; from the DVC remote, if they are not here.

    Args:
        root: The workspace.
        name: The registered model.
        version: Of it.

    Raises:
        PassingFault: They are neither here nor in the remote.
    """
    with found(root, f"{MODELS}{name}/{version}") as it:
        md5, commit = it.state.entries["prepare"].outs[PREPARED], it.state.commit
    with tempfile.TemporaryDirectory() as directory:
        there, repo = Path(directory) / "prepared", Repo(str(root))
        for again in (True, False):
            link(Path(repo.cache.local.path), md5, there)  # not what lies in the workspace: that may be half-made
            if (there / "data.json").is_file():
                yield there
                return
            if again:
                _fetch(repo, commit)
    raise PassingFault(
        f"the data that {name} version {version} learned from are neither in DVC's cache nor in a remote of it; "
        f"fetch them: dvc fetch --rev {commit or 'HEAD'} prepare"
    )


def _fetch(repo: Repo, commit: str | None) -> None:
    """From the DVC remote, if there is one."""
    if repo.config["core"].get("remote"):
        try:
            repo.fetch(targets=["prepare"], revs=[commit] if commit else None)
        except DvcException as error:
            raise PassingFault(f"dvc fetch: {error}") from error
