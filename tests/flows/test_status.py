"""What `secateur status` says of a finished, an unfinished and no run."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.status import show, status
from tasks.core.files import read_json, write_json


def test_figures_of_a_finished_run(finished_run: Path) -> None:
    facts = status(finished_run)
    assert facts["recipe"] == "quickstart"
    assert facts["budget"]["best"] == "pruned-dynamic"
    assert facts["budget"]["met"] is False
    assert [(check["name"], check["met"]) for check in facts["budget"]["checks"]] == [
        ("max_drop", True),
        ("speedup_b1", True),
        ("speedup_b32", False),
    ]
    wanted = {"stage", "path", "quality", "quality_low", "quality_high", "parameters", "bytes", "latency_ms_b1"}
    assert all(wanted <= model.keys() for model in facts["models"].values())
    assert facts["rounds"]["r3"]["state"] == "passed"


def test_exit_status_follows_the_budget(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(finished_run) == 1
    path = finished_run / "data/times/test/times.json"
    times = read_json(path)
    times["models"]["pruned-dynamic"]["speedup_b32"] = 5.5
    write_json(path, times)
    assert show(finished_run) == 0
    assert "budget met; the best is pruned-dynamic" in capsys.readouterr().out


def test_table_is_plain_and_narrow(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(finished_run)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 100
    rows = [line for line in out.splitlines() if " MB " in line]
    assert len(rows) == 13
    assert rows[0].startswith("→ pruned-dynamic")
    assert rows[-1].startswith("✗ student-static")
    assert "…" not in out


def test_json_is_what_status_says(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(finished_run, as_json=True) == 1
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(status(finished_run)))


def test_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(tmp_path) == 1
    assert capsys.readouterr().out == "no run yet; start one with: secateur run\n"


def test_a_run_that_was_cut_off(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(finished_run / "data/evaluate")
    assert show(finished_run) == 1
    out = capsys.readouterr().out
    assert "round r2: met, every limit is met" in out
    assert "go on with: secateur run" in out


def test_a_model_that_was_not_timed_is_shown(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = finished_run / "data/times/test/times.json"
    times = read_json(path)
    del times["models"]["student-static"]
    write_json(path, times)
    show(finished_run)
    assert any(
        "student-static" in line and line.rstrip().endswith("-") for line in capsys.readouterr().out.splitlines()
    )


def test_it_imports_nothing_heavy(finished_run: Path) -> None:
    code = "import sys; from pathlib import Path; from flows.status import status; status(Path(sys.argv[1]));"
    code += "print(sorted({'torch','numpy','matplotlib','dvc','mlflow','prefect','pandas'} & set(sys.modules)))"
    start = time.perf_counter()
    ran = subprocess.run([sys.executable, "-c", code, str(finished_run)], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
    assert time.perf_counter() - start < 5
