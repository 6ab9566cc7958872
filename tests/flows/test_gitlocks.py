"""What a killed git leaves goes, and what a living one holds stays."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from flows import git, gitlocks
from tasks.core.errors import EnvironmentFault
from tests.flows.conftest import commit_all


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("one")
    commit_all(tmp_path)
    return tmp_path


def commit_and_hang(root: Path) -> "subprocess.Popen[bytes]":
    """A commit that has taken its locks, and waits in a hook."""
    hook = root / ".git" / "hooks" / "pre-commit"
    hook.write_text("#!/bin/sh\ntouch reached\nexec sleep 60\n")
    hook.chmod(0o755)
    (root / "file").write_text("two")
    words = ["git", "-c", "user.name=a", "-c", "user.email=a", "commit", "-q", "-m", "Two", "--only", "file"]
    process = subprocess.Popen(words, cwd=root, start_new_session=True)
    end = time.monotonic() + 30
    while not (root / "reached").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    assert (root / ".git" / "index.lock").exists()
    return process


def test_the_locks_of_a_killed_commit_go(repository: Path) -> None:
    process = commit_and_hang(repository)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (repository / ".git" / "hooks" / "pre-commit").unlink()
    with pytest.raises(EnvironmentFault, match=r"index\.lock"):
        git.commit(repository, ["file"], "Two")
    for name in ("HEAD.lock", f"{git.branch(repository)}.lock"):
        (repository / ".git" / name).touch()
    assert len(gitlocks.free(repository)) == 3
    git.commit(repository, ["file"], "Two")
    assert gitlocks.free(repository) == []


def test_the_locks_of_a_living_one_stay(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gitlocks, "PATIENCE", 0.3)
    process = commit_and_hang(repository)
    try:
        with pytest.raises(EnvironmentFault, match=rf"git is at work in this repository \(process {process.pid}\)"):
            gitlocks.free(repository)
        assert (repository / ".git" / "index.lock").exists()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
