"""The real stages: a tiny model to its end twice with the same bytes, killed in between; the real one on few rows."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from transformers import AutoModelForSequenceClassification

from flows.export import export
from flows.predict import predict
from tasks.core.errors import UserError
from tests.flows.conftest import REPOSITORY, hashes, is_clean
from tests.flows.test_tracking import runs
from tests.flows.tiny import finish, make_clone, secateur
from tests.tasks.report.card_code import run


def results(root: Path) -> dict[str, str]:
    """md5 of every out but those that hold measured times."""
    return {path: md5 for path, md5 in hashes(root).items() if not path.startswith(("data/times", "data/report"))}


def test_the_tiny_pipeline_prunes_until_its_budget_is_met(unbroken: Path) -> None:
    verdicts = [json.loads((unbroken / f"data/rounds/{r}/verdict.json").read_text()) for r in ("r1", "r2", "r3")]
    assert [verdict["state"] for verdict in verdicts] == ["continue", "met", "passed"]
    assert json.loads((unbroken / "data/scores/r3/passed.json").read_text())["because"].startswith("r2: ")
    quality = json.loads((unbroken / "data/evaluate/test/quality.json").read_text())
    assert quality["pruned"] == "r2"
    assert quality["models"]["r2"]["flops"] < 0.55 * quality["models"]["dense"]["flops"]
    assert quality["models"]["dense"]["quality"] > 0.9
    assert quality["models"]["pruned-static"]["bytes"] < quality["models"]["dense"]["bytes"]
    assert "r3" not in quality["models"]
    assert is_clean(unbroken)
    assert (unbroken / "data/report/report.html").is_file()


def test_the_pruned_model_loads_and_says_the_same(unbroken: Path) -> None:
    from tasks.modeling.inference import forward, open_model
    from tasks.text.data import read_split

    batch = read_split(unbroken / "data/prepared", "test").batch(range(8))
    directory = unbroken / "models/rounds/r2"
    ours = open_model(directory, 1)(batch)
    official = AutoModelForSequenceClassification.from_pretrained(directory, trust_remote_code=True)
    np.testing.assert_allclose(ours, forward(official)(batch), atol=1e-6)
    np.testing.assert_allclose(ours, open_model(unbroken / "models/quantized/pruned/fp32", 1)(batch), atol=1e-4)


def test_what_is_handed_over_loads_without_secateur(
    unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The code of its card says what `predict` says."""
    monkeypatch.chdir(unbroken)
    texts = ["the film is great", "a poor story 17"]
    replaced = dict(zip(("A first text.", "Another one."), texts, strict=True))
    for name, blocks in (("pruned-dynamic", 2), ("student", 1)):
        directory = tmp_path / name
        export(name, directory)
        predict(name, texts)
        expected = [line.split("\t")[:2] for line in capsys.readouterr().out.splitlines()]
        said = run((directory / "README.md").read_text(), directory, **replaced)
        assert len(said) == blocks
        measured = [line.split() for line in said[-1]]
        assert [label for label, _ in measured] == [label for label, _ in expected] == ["pos", "neg"]
        for (_, mine), (_, share) in zip(measured, expected, strict=True):
            assert float(mine) == pytest.approx(float(share), abs=1e-3)
        predict(str(directory), texts)
        assert [line.split("\t")[:2] for line in capsys.readouterr().out.splitlines()] == expected
    with pytest.raises(UserError, match="is there already"):
        export("student", tmp_path / "student")
    with pytest.raises(UserError, match="no model of the last run; there are: dense, "):
        export("studnet", tmp_path / "new")
    assert is_clean(unbroken)


def test_what_changed_since_the_report_is_not_handed_over(
    unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "clone"
    shutil.copytree(unbroken, root)
    monkeypatch.chdir(root)
    (root / "models/student/config.json").write_text("{}")
    with pytest.raises(UserError, match=r"models/student changed since the report"):
        export("student-dynamic", tmp_path / "out")
    shutil.rmtree(root / "data/report")
    with pytest.raises(UserError, match="student-dynamic has no card yet"):
        export("student-dynamic", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_elsewhere_and_killed_it_gives_the_same_bytes(tiny: Path, unbroken: Path, prefect: str, tmp_path: Path) -> None:
    """In another directory, killed in each kind of stage that takes a while."""
    root = tmp_path / "clone"
    shutil.copytree(tiny, root)
    for out in ("models/dense", "models/rounds/r1", "models/student", "models/quantized/pruned", "data/evaluate/test"):
        process = secateur(root, prefect, "run", "recipe.yaml")
        mark = (root / out).with_name(f".{Path(out).name}.partial")
        while process.poll() is None and not mark.exists():
            time.sleep(0.02)
        assert process.poll() is None, f"{out} was there before it was seen: {process.communicate()[0]}"
        time.sleep(0.2)
        for member in (*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)):
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        process.communicate()
        assert not (root / out).exists()
    finish(secateur(root, prefect, "run", "recipe.yaml"))
    assert results(root) == results(unbroken)
    assert is_clean(root)
    assert not [run.info.run_name for run in runs(root) if run.info.status == "RUNNING"]
    assert not list(root.rglob("*.partial"))


def test_changing_quantize_runs_only_what_depends_on_it(unbroken: Path, prefect: str, tmp_path: Path) -> None:
    root = tmp_path / "clone"
    shutil.copytree(unbroken, root)
    output = finish(secateur(root, prefect, "run", "recipe.yaml", "--set", "quantize.methods=[dynamic]"))
    ran = {line.split(" …")[0] for line in output.splitlines() if " … done" in line} - {"start Prefect"}
    assert ran == {"quantize@dense", "quantize@pruned", "quantize@student", "evaluate@test", "report"}


@pytest.mark.long
def test_dvc_alone_gives_the_same_bytes(tiny: Path, unbroken: Path, tmp_path: Path) -> None:
    """`dvc repro` in a second clone, with nothing of the flow; then `dvc checkout` of what was deleted."""
    root = tmp_path / "clone"
    shutil.copytree(tiny, root)
    shutil.copy(unbroken / "params/pipeline.yaml", root / "params/pipeline.yaml")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(["dvc", "repro"], cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert results(root) == results(unbroken)
    shutil.rmtree(root / "models")
    subprocess.run(["dvc", "checkout", "-q"], cwd=root, env=environment, check=True)
    assert is_clean(root)
    again = subprocess.run(["dvc", "repro"], cwd=root, env=environment, capture_output=True, text=True, check=True)
    assert "Running stage" not in again.stdout


@pytest.mark.long
def test_the_real_model_on_few_rows(prefect: str, tmp_path: Path) -> None:
    """MiniLM and Rotten Tomatoes by their package-index sources, through every stage, as `make run` does."""
    root = make_clone(tmp_path / "clone")
    few = ["data.limit=192", "train.epochs=1", "distill.epochs=1", "evaluate.repeats=1", "score.rows=64"]
    finish(secateur(root, prefect, "run", *(word for setting in few for word in ("--set", setting))))
    quality = json.loads((root / "data/evaluate/test/quality.json").read_text())["models"]
    assert quality["dense"]["parameters"] > 22_000_000
    assert quality["r1"]["parameters"] < quality["dense"]["parameters"]
    times = json.loads((root / "data/times/test/times.json").read_text())["models"]
    assert times["dense"]["speedup_b1"] == 1
    assert times.keys() == quality.keys()
