"""The directory that holds dvc.yaml: where it is, what Secateur keeps in it, the lock of its one running pipeline."""

import fcntl
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.core.errors import EnvironmentFault, UserError

PRIVATE = ".secateur"
PIPELINE = Path("params/pipeline.yaml")
JOURNAL = "promotion.json"
"""The decision that is being carried out; not there otherwise."""
RETRAINING = "retrain.lock"
REAPER = "the reaper,"
PATIENCE = 30.0
"""Seconds that the reaper is waited for."""


def find(start: Path) -> Path:
    """The workspace that `start` lies in.

    Raises:
        UserError: Neither `start` nor a directory above it holds a dvc.yaml.
    """
    start = start.resolve()
    for directory in (start, *start.parents):
        if (directory / "dvc.yaml").is_file():
            return directory
    raise UserError(f"{start} is in no workspace: neither it nor a directory above holds dvc.yaml; go to one that does")


def check(root: Path) -> None:
    """Refuses a workspace that is not under git and DVC, such as one unpacked from an archive.

    Raises:
        UserError: What is missing, and the command that makes it.
    """
    commands = []
    if not any((directory / ".git").exists() for directory in (root, *root.parents)):
        commands.append("git init")
    if not (root / ".dvc").is_dir():
        commands.append("dvc init")
    elif not (root / ".dvc" / "config").is_file():
        commands.append("dvc init --force")
    if commands:
        raise UserError(f"{root} is not under git and DVC, which version what a run makes: {' && '.join(commands)}")


def private(root: Path, *parts: str) -> Path:
    """A path in the directory that Secateur keeps for itself; the directories on the way are made."""
    path = root.joinpath(PRIVATE, *parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def identity(root: Path) -> str:
    """A name for this workspace on servers that several share: random, kept, and another for a copy elsewhere."""
    file = private(root, "workspace")
    if not file.is_file() or not file.read_text(encoding="utf-8").strip():
        write(file, f"{uuid.uuid4()}\n")
    return str(uuid.uuid5(uuid.UUID(file.read_text(encoding="utf-8").strip()), str(root.resolve())))


def write(path: Path, text: str) -> None:
    """Writes a file that is whole or as before, and leaves one alone that already says the same."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


class Busy(EnvironmentFault):
    """Another pipeline runs in the workspace."""


@contextmanager
def locked(root: Path, who: str = "") -> Iterator[None]:
    """Holds the workspace: what is found half-done inside is then certain to be left from a kill.

    Args:
        root: The workspace.
        who: What holds it, for those who want it too.

    Raises:
        Busy: Another pipeline runs here; the kernel frees the lock when that process ends, however it ends.
    """

    def refuse(holder: str) -> Busy:
        return Busy(
            f"a pipeline is already running in this workspace ({holder}); wait for it, or stop it and run again"
        )

    with hold(private(root, "lock"), who, refuse):
        yield


@contextmanager
def hold(file: Path, who: str, refuse: Callable[[str], Exception]) -> Iterator[None]:
    """Holds a lock that the kernel frees when this process ends.

    Args:
        file: What is locked; it says who holds it.
        who: Said there, before the number of the process.
        refuse: Makes the error of whom another one holds; the reaper, which is soon done, is waited for.
    """
    with file.open("a+", encoding="utf-8") as lock:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                lock.seek(0)
                holder = lock.read().strip() or "another process"
                if not holder.startswith(REAPER) or time.monotonic() > end:
                    raise refuse(holder) from None
                time.sleep(0.1)
        lock.truncate(0)
        lock.write(f"{who} process {os.getpid()}".strip() + "\n")
        lock.flush()
        yield


def is_held(file: Path) -> bool:
    """Whether someone holds a lock."""
    with file.open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
