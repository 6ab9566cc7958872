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
    model = f"{MODELS}{name}/{version}"
    for last in (False, True):
        with found(root, model) as it:
            there = it.state.root / PREPARED
            if (there / "data.json").is_file():
                yield there
                return
            commit = it.state.commit
        if last or not commit:
            break
        _fetch(root, commit)
    raise PassingFault(
        f"the data that {name} version {version} learned from are neither in DVC's cache nor in a remote of it; "
        f"fetch them: dvc fetch --rev {commit or 'HEAD'} prepare"
    )


def _fetch(root: Path, commit: str) -> None:
    repo = Repo(str(root))
    if repo.config["core"].get("remote"):
        try:
            repo.fetch(targets=["prepare"], revs=[commit])
        except DvcException as error:
            raise PassingFault(f"dvc fetch: {error}") from error
