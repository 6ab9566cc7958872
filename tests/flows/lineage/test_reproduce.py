"""A model is made once more from its record: the same bytes, or the first stage where they are others."""

import shutil
import subprocess
from pathlib import Path

import pytest

from flows.lineage.reproduce import reproduce
from tasks.core.errors import UserError
from tests.flows.conftest import calls, pipeline


def test_the_same_bytes_come_out_and_the_workspace_stays(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (workspace / "dvc.lock").read_bytes()
    assert reproduce(workspace, str(workspace / "models/dense")) == 0
    assert "2 stages made once more, every sha256 is the same" in capsys.readouterr().out
    assert (workspace / "dvc.lock").read_bytes() == before
    assert calls(workspace) == []
    trees = subprocess.run(["git", "worktree", "list"], cwd=workspace, capture_output=True, text=True, check=True)
    assert len(trees.stdout.splitlines()) == 1


def test_params_that_are_not_the_record_are_refused(workspace: Path) -> None:
    file = workspace / "params/pipeline.yaml"
    file.write_text(file.read_text().replace("seed: 0", "seed: 1", 1))
    with pytest.raises(UserError, match=r"cannot be made again: params/pipeline\.yaml has seed: 1"):
        reproduce(workspace, str(workspace / "models/dense"))


def test_what_was_measured_is_taken_from_the_record(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No clock says the same twice, and the model hangs on what it said."""
    assert pipeline(workspace, "prune.rounds=[{latency: 0.3}]", "prune.allocation=solve")
    table = workspace / "data/times/table"
    assert reproduce(workspace, str(workspace / "models/rounds/r1")) == 0
    assert "5 stages made once more, every sha256 is the same" in capsys.readouterr().out
    (table / "table.json").write_text("{}")
    with pytest.raises(UserError, match=r"data/times/table is no longer what it was"):
        reproduce(workspace, str(workspace / "models/rounds/r1"))


@pytest.mark.long
def test_a_real_quantized_model(unbroken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Then with other weights in a round: that round is named."""
    root = tmp_path / "clone"
    shutil.copytree(unbroken, root)
    assert reproduce(root, "pruned-dynamic") == 0
    assert "15 stages made once more" in capsys.readouterr().out
    weights = root / "models/rounds/r2/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    assert reproduce(root, "pruned-dynamic") == 1
    assert "finetune@r2: model.safetensors is not the same in models/rounds/r2" in capsys.readouterr().out
