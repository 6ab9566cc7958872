"""The cache of fetched things: an entry is whole or absent, whoever else fetches it and whatever is killed."""

import errno
import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.core.errors import EnvironmentFault
from tasks.core.files import tree_hash, whole

FULL = {errno.ENOSPC, errno.EDQUOT}


def keep(entry: Path, fill: Callable[[Path], None]) -> Path:
    """The directory of a cache entry; `fill` writes it if it is not there or no longer what was written.

    Args:
        entry: its directory; two names for two contents.
        fill: called with an empty directory, while no other process fills the same entry.

    Raises:
        EnvironmentFault: the cache cannot be written.
    """
    files, digest = entry / "files", entry / "sha256"
    with disk(entry.parent), _alone(entry):
        if not (digest.is_file() and digest.read_text() == tree_hash(files)):
            with whole(entry) as partial:
                (partial / "files").mkdir()
                fill(partial / "files")
                (partial / "sha256").write_text(tree_hash(partial / "files"))
    return files


@contextmanager
def disk(cache: Path) -> Iterator[None]:
    """Turns an error of the file system into one sentence."""
    try:
        yield
    except OSError as error:
        reason = "no space left on the disk" if error.errno in FULL else error.strerror or str(error)
        advice = "make room, or set SECATEUR_CACHE to a directory on another disk"
        raise EnvironmentFault(f"cannot write the cache {cache}: {reason}; {advice}") from None


@contextmanager
def _alone(entry: Path) -> Iterator[None]:
    """Waits until no other process is in here; the system frees the lock of one that was killed."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    with entry.with_name(f".{entry.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
