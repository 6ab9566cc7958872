"""The disk is full at five points: one message, what was made before stays whole, and room is all that is missing."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.lineage.hashes import Hashes
from flows.lineage.state import present
from flows.promotion import promote as work
from flows.promotion.record import decisions
from flows.promotion.transaction import recover
from flows.workspace import JOURNAL, locked, private
from tasks.core.errors import EnvironmentFault
from tests.flows.conftest import drive, hashes, is_clean, make_workspace
from tests.flows.fake import fill
from tests.flows.retraining.conftest import stand_in
from tests.flows.test_kill import running_in_mlflow, running_in_prefect

pytestmark = [pytest.mark.long, pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a file system")]
SHORT = [
    word
    for setting in ("prune.rounds=[0.3]", "distill.enabled=false", "quantize.models=[]", "limits.wait=0")
    for word in ("--set", setting)
]


@pytest.fixture
def disks() -> Iterator[list[Path]]:
    """Places that have a small file system of their own."""
    mounted: list[Path] = []
    yield mounted
    for place in mounted:
        subprocess.run(["umount", "-l", place], check=True)


def mount(disks: list[Path], place: Path, size: str = "32m") -> None:
    """A file system of its own for a directory, with what is in it."""
    old = place.with_name(f"{place.name}.before")
    if place.exists():
        place.rename(old)
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True)
    disks.append(place)
    if old.exists():
        subprocess.run(["cp", "-a", f"{old}/.", place], check=True)


def run(root: Path) -> tuple[int, str]:
    process = drive(root, "run", *SHORT)
    _, error = process.communicate(timeout=300)
    return process.returncode, error


@pytest.fixture(scope="module")
def right(prefect: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What an unbroken run makes."""
    root = make_workspace(tmp_path_factory.mktemp("right") / "workspace")
    assert run(root)[0] == 0
    return hashes(root)


@pytest.mark.parametrize("point", ["data", "models", ".dvc/cache", ".secateur"])
def test_full_in_mid_run(fresh: Path, right: dict[str, str], disks: list[Path], point: str) -> None:
    """From the moment that the second stage begins."""
    place = fresh / point
    mount(disks, place)
    (fresh / "orders" / "train").write_text(f"fill {place}")
    status, error = run(fresh)
    assert status == 1
    assert error.count("secateur: ") == 1
    assert "Traceback" not in error
    assert "No space left" in error or "disk is full" in error
    state = present(fresh)
    assert state.hashes.md5("data/prepared") == state.entries["prepare"].outs["data/prepared"]
    assert set(state.entries) <= {"prepare", "train"}
    (place / "filler").unlink()
    status, error = run(fresh)
    assert status == 0, error
    assert hashes(fresh) == right
    assert is_clean(fresh)
    assert running_in_mlflow(fresh) == running_in_prefect(fresh) == []
    assert not list(fresh.rglob("*.partial"))


def test_full_when_a_decision_is_committed(workspace: Path, disks: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    before = Hashes(workspace).files("models")
    mount(disks, workspace / ".git")
    fill(workspace / ".git")
    with pytest.raises(EnvironmentFault, match=r"git add: .*; the promotion is kept and will be finished by: secateur"):
        work.promote(workspace, str(workspace / "models/dense"))
    assert private(workspace, JOURNAL).is_file()
    assert Hashes(workspace).files("models") == before
    (workspace / ".git" / "filler").unlink()
    with locked(workspace):
        done: dict[str, Any] | None = recover(workspace)
    assert done
    assert decisions(workspace) == [done]
    log = subprocess.run(["git", "log", "-1", "--format=%s"], cwd=workspace, capture_output=True, text=True, check=True)
    assert log.stdout.startswith("Promotion of models/dense")
