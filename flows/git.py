"""What git knows of a workspace, and the commits that are made for it."""

import io
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tasks.core.errors import EnvironmentFault


def head(root: Path) -> str | None:
    """The commit that the workspace is at; None before the first one."""
    return _words(root, "rev-parse", "--verify", "-q", "HEAD")


def has(root: Path, commit: str) -> bool:
    """Whether the repository holds that commit."""
    return _words(root, "rev-parse", "--verify", "-q", f"{commit}^{{commit}}") is not None


def commits(root: Path, path: str, *, everywhere: bool = False) -> Iterator[str]:
    """The commits that changed a file or directory of the workspace, the latest first; `everywhere`: on any branch."""
    yield from (_words(root, "log", *(["--all"] if everywhere else []), "--format=%H", "--", path) or "").split()


def files(root: Path, commit: str, suffix: str) -> list[str]:
    """The files of the workspace in a commit whose names end so."""
    names = (_words(root, "ls-tree", "-r", "--name-only", commit) or "").splitlines()
    return [name for name in names if name.endswith(suffix)]


def show(root: Path, commit: str, path: str) -> str | None:
    """The text of a file of the workspace in a commit; None if it is not there."""
    done = _git(root, "show", f"{commit}:./{path}")
    return None if done.returncode else done.stdout.decode()


def export(root: Path, commit: str, paths: Sequence[str], into: Path) -> None:
    """Writes those of `paths` that a commit holds below `into`."""
    there = [path for path in paths if _words(root, "ls-tree", "--name-only", commit, f"./{path}")]
    if there:
        done = _git(root, "archive", "--format=tar", commit, *there)
        if done.returncode:
            raise EnvironmentFault(f"git archive {commit}: {done.stderr.decode().strip()}")
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(into, filter="data")


def top(root: Path) -> Path | None:
    """The work tree that the workspace lies in."""
    found = _words(root, "rev-parse", "--show-toplevel")
    return Path(found) if found else None


def branch(root: Path) -> str | None:
    """The full name of the branch that is checked out; None if none is."""
    return _words(root, "symbolic-ref", "-q", "HEAD")


def inside(root: Path, name: str) -> Path | None:
    """Where git keeps a file of its own."""
    found = _words(root, "rev-parse", "--git-path", name)
    return (root / found).resolve() if found else None


def tracks(root: Path, path: str) -> bool:
    """Whether git versions a file, or any file of a directory, of the workspace."""
    return bool(_words(root, "ls-files", "--", path))


def prefix(root: Path) -> str:
    """Where the workspace lies in its repository; empty if it is the whole of it."""
    return _words(root, "rev-parse", "--show-prefix") or ""


def worktree(root: Path, place: Path, commit: str) -> None:
    """Makes a work tree of a commit; remove the directory and `prune` to be rid of it.

    Raises:
        EnvironmentFault: git could not.
    """
    done = _git(root, "worktree", "add", "-q", "--detach", str(place), commit)
    if done.returncode:
        raise EnvironmentFault(f"git worktree: {done.stderr.decode().strip()}")


def prune(root: Path) -> None:
    """Forgets work trees whose directory is gone."""
    _git(root, "worktree", "prune")


def who(root: Path) -> str:
    """The one whose name git would put on a commit."""
    name, mail = (_words(root, "config", key) for key in ("user.name", "user.email"))
    return f"{name or 'unknown'} <{mail}>" if mail else name or "unknown"


def commit(root: Path, paths: Sequence[str], message: str) -> str:
    """Commits these files alone, whatever else is staged; the commit they are in, an earlier one if none changed.

    Raises:
        EnvironmentFault: git refused.
    """
    stand_in = [] if _words(root, "config", "user.email") else ["-c", "user.name=secateur", "-c", "user.email=secateur"]
    for words in (["add", "-f", "--", *paths], [*stand_in, "commit", "-q", "-m", message, "--only", "--", *paths]):
        if words[0] != "add" and not _words(root, "status", "--porcelain", "--", *paths):
            break
        done = _git(root, *words)
        if done.returncode:
            raise EnvironmentFault(f"git {words[0]}: {(done.stderr or done.stdout).decode().strip()}")
    return str(head(root))


def _words(root: Path, *words: str) -> str | None:
    done = _git(root, *words)
    return None if done.returncode else done.stdout.decode().strip()


def _git(root: Path, *words: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["git", *words], cwd=root, capture_output=True, check=False)
