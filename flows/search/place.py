"""Where a search keeps what it makes, all below .secateur/search/NAME."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.child import has_gpu
from flows.workspace import private
from tasks.core.errors import EnvironmentFault


@dataclass(frozen=True)
class Place:
    """The directories and files of one search in a workspace."""

    root: Path
    """The workspace."""
    name: str

    @property
    def home(self) -> Path:
        """What holds all of it."""
        return private(self.root, "search", self.name, "recipe.yaml").parent

    @property
    def recipe(self) -> Path:
        """The complete recipe that every trial is a change of; workers read it."""
        return self.home / "recipe.yaml"

    @property
    def shared(self) -> Path:
        """What trials have in common, by content."""
        return self.home / "shared"

    @property
    def report(self) -> Path:
        """The report's page, pictures and figures."""
        return self.home / "report"

    def trial(self, number: int) -> Path:
        """A trial's own; `number` is the one it had when it was first taken up."""
        return self.home / "trials" / f"{number:04d}"

    def worker(self, name: str) -> Path:
        """Logs of a worker process."""
        directory = self.home / "workers" / name
        directory.mkdir(parents=True, exist_ok=True)
        return directory


@contextmanager
def held(place: Place) -> Iterator[None]:
    """Keeps a second `secateur search` of that name out of the workspace; the kernel frees it however this one ends."""
    with (place.home / "lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise EnvironmentFault(f"the search {place.name} is already running ({holder}); wait for it") from None
        file.truncate(0)
        file.write(f"process {os.getpid()}\n")
        file.flush()
        yield


def alone(file: Path) -> AbstractContextManager[None]:
    """Waits until no other process holds `file`."""
    return _holding(file, fcntl.LOCK_EX)


@contextmanager
def timing() -> Iterator[None]:
    """Alone on this machine's clock: what began before is waited for, and nothing begins meanwhile."""
    with alone(_temporary("turn")), alone(_temporary("clock")):
        yield


@contextmanager
def working() -> Iterator[None]:
    """Beside others that work, while nobody measures times on this machine; whoever waits to measure comes first.

    With GPUs the workers have one each, and do not disturb one another.
    """
    with ExitStack() as stack:
        if not has_gpu():
            with alone(_temporary("turn")):
                stack.enter_context(_holding(_temporary("clock"), fcntl.LOCK_SH))
        yield


@contextmanager
def _holding(file: Path, kind: int) -> Iterator[None]:
    file.parent.mkdir(parents=True, exist_ok=True)
    # Read-only is enough for a lock, and works on a file that another user made.
    descriptor = os.open(file, os.O_RDONLY | (0 if file.exists() else os.O_CREAT), 0o644)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)


def _temporary(name: str) -> Path:
    return Path(tempfile.gettempdir()) / f"secateur-{name}.lock"
