"""What is needed stays in DVC's cache, whoever needs it; what nobody needs goes when asked."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows.garbage.collect import collect, show, within
from flows.lineage.find import found
from flows.lineage.state import present
from flows.lineage.verify import verify
from tasks.core.errors import UserError
from tests.flows.conftest import commit_all, hashes, is_clean, pipeline

OTHER = "distill.epochs=9"


def cached(root: Path) -> set[str]:
    files = (root / ".dvc" / "cache" / "files" / "md5").glob("*/*")
    return {f"{file.parent.name}{file.name}" for file in files if file.is_file()}


def checkout(root: Path) -> None:
    for name in ("data", "models"):
        shutil.rmtree(root / name)
    subprocess.run([sys.executable, "-m", "dvc", "checkout", "-q"], cwd=root, check=True)


def test_what_a_registered_model_was_made_from_stays(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """First with the student of another state registered, then without."""
    client = MlflowClient(f"sqlite:///{workspace / '.secateur' / 'mlflow.db'}")
    commit_all(workspace)
    pipeline(workspace, OTHER)
    other = hashes(workspace)
    pipeline(workspace)
    now = hashes(workspace)
    assert other["models/student"] != now["models/student"]
    before = cached(workspace)
    show(workspace, False)
    assert cached(workspace) == before
    assert "data/report (run" in (shown := capsys.readouterr().out)
    assert "to remove them: secateur gc --remove" in shown
    assert collect(workspace, remove=True).objects > 0
    assert cached(workspace) < before
    assert {other["models/student"], other["models/quantized/student"]} <= cached(workspace)
    assert other["data/report"] not in cached(workspace)
    for label in ("student", "quantized-student"):
        client.delete_model_version(f"quickstart-{label}", "2")
    named = collect(workspace, remove=True).named
    assert [name.partition(" ")[0] for name in named] == ["models/quantized/student", "models/student"]
    assert collect(workspace, remove=True).objects == 0
    checkout(workspace)
    assert is_clean(workspace)
    with found(workspace, "models:/quickstart-quantized-student@current") as it:
        assert list(verify(it)) == []
    assert pipeline(workspace, OTHER)  # its record of runs names what is gone: it is made anew


def test_a_state_that_a_decision_names_stays_whole(workspace: Path) -> None:
    """Report and figures too, though the registry has forgotten its models."""
    client = MlflowClient(f"sqlite:///{workspace / '.secateur' / 'mlflow.db'}")
    pipeline(workspace, OTHER)
    (workspace / "promotions").mkdir()
    (workspace / "promotions" / "20260101.json").write_text("{}")
    commit_all(workspace)
    other = {entry.name: entry for entry in present(workspace).entries.values()}
    (workspace / "promotions" / "20260101.json").unlink()
    pipeline(workspace)
    for label in ("student", "quantized-student"):
        client.delete_model_version(f"quickstart-{label}", "2")
    collect(workspace, remove=True)
    assert {md5 for entry in other.values() for md5 in entry.outs.values()} <= cached(workspace)


def test_the_budget_of_the_disk_asks_for_it(workspace: Path) -> None:
    assert within(workspace, 1.0) is None
    text = within(workspace, 1e-9)
    assert text
    assert "limits.disk_gb allows 1e-09: 0.000 GB were freed; the other 0.000 GB are needed" in text


def test_a_shared_cache_is_left_alone(workspace: Path, tmp_path: Path) -> None:
    config = workspace / ".dvc" / "config"
    config.write_text(config.read_text() + f"    dir = {tmp_path / 'shared'}\n")
    with pytest.raises(UserError, match="lies outside the workspace"):
        collect(workspace, remove=True)
