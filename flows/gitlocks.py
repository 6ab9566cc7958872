"""Locks that a killed git leaves: they go when no git is at work in the repository."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from flows import git
from tasks.core.errors import EnvironmentFault

PATIENCE = 5.0
"""Seconds that a git at work is waited for."""


def free(root: Path) -> list[Path]:
    """Removes the locks of the index and of HEAD that no process can hold any more; which those were.

    Raises:
        EnvironmentFault: A git is at work in the repository, and stays so.
    """
    end = time.monotonic() + PATIENCE
    while left := [path for path in _locks(root) if path.exists()]:
        alive = list(_gits(git.top(root)))
        if not alive:
            break
        if time.monotonic() > end:
            raise EnvironmentFault(
                f"git is at work in this repository (process {alive[0]}) and holds {left[0].name}; wait for it, "
                "or stop it, and run again"
            )
        time.sleep(0.1)
    for path in left:
        path.unlink(missing_ok=True)
    return left


def _locks(root: Path) -> Iterator[Path]:
    """Those that a commit takes: of the index, of HEAD, of its branch."""
    branch = git.branch(root)
    for name in ("index.lock", "HEAD.lock", *([f"{branch}.lock"] if branch else [])):
        if path := git.inside(root, name):
            yield path


def _gits(top: Path | None) -> Iterator[int]:
    """Processes called git that are somewhere in the work tree, or of which that cannot be told."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess):
            try:
                if process.name() != "git" or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                where = Path(process.cwd())
            except psutil.AccessDenied:
                yield process.pid
                continue
            if top is None or where.is_relative_to(top):
                yield process.pid
