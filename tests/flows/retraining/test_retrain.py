"""What a retraining does with new data, and with none."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.lineage.find import found
from flows.lineage.verify import verify
from flows.promotion.record import decisions
from flows.promotion.transaction import CHALLENGER, CHAMPION, PREVIOUS
from flows.retraining.judge import SIGNING_KEY
from tasks.core.errors import UserError
from tasks.core.files import file_hash
from tests.flows.conftest import calls, is_clean
from tests.flows.lineage.test_attestation import key_pair
from tests.flows.retraining.conftest import CHAIN, retrain, rows, write_rows
from tests.flows.test_tracking import runs


def test_the_first_model_becomes_the_champion_and_all_is_committed(reviews: Path) -> None:
    (first,) = decisions(reviews)
    assert (first["decision"], first["after"][CHAMPION]) == ("promotion", "1")
    assert first["command"].startswith("secateur retrain ")
    assert first["flow_run"]
    assert [check["name"] for check in first["checks"]][:2] == ["data form", "lineage"]
    shown = subprocess.run(
        ["git", "show", "--name-only", "--format=%s"], cwd=reviews, capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"dvc.lock", "params/pipeline.yaml", "rows.csv.dvc", ".gitignore"} <= set(shown)
    assert is_clean(reviews)


def test_without_changes_nothing_is_done(reviews: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (len(runs(reviews)), decisions(reviews))
    assert retrain(reviews) == 0
    assert capsys.readouterr().out == "nothing changed\n"
    assert calls(reviews) == []
    assert (len(runs(reviews)), decisions(reviews)) == before


def test_more_rows_are_trained_with_and_promoted(reviews: Path, measured: dict[str, Any]) -> None:
    table = (reviews / "rows.csv").read_bytes()
    write_rows(reviews / "rows.csv", rows(0, 300) + rows(1, 100))
    assert retrain(reviews) == 0
    assert calls(reviews) == CHAIN
    first, second = decisions(reviews)
    assert second["after"] == {CHAMPION: "2", PREVIOUS: first["after"][CHAMPION], CHALLENGER: None}
    names = [check["name"] for check in second["checks"]]
    assert names[:7] == [
        "data form", "data classes", "data rows", "data length shift", "data class shift", "data unknown words",
        "data relabelled",
    ]  # fmt: skip
    assert {"lineage", "margin", "earlier_margin"} <= set(names[7:])
    assert second["evidence"]["earlier"]["rows"] == 30
    # data as they were need no training, but a verdict
    (reviews / "rows.csv").write_bytes(table)
    assert retrain(reviews) == 0
    assert calls(reviews) == []
    assert [record["after"][CHAMPION] for record in decisions(reviews)] == ["1", "2", "1"]


def test_a_worse_model_stays_challenger(
    reviews: Path, measured: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own test rows are as wrong as its training rows; those of the champion are not."""
    measured["earlier"] = replace(measured["earlier"], drop_high=0.3)
    write_rows(reviews / "rows.csv", rows(0, 300) + rows(1, 300, flipped=True))
    assert retrain(reviews) == 1
    refused = decisions(reviews)[-1]
    assert refused["after"] == {CHAMPION: "1", PREVIOUS: None, CHALLENGER: "2"}
    assert refused["because"] == "earlier_margin 0.3 is above 0.01"
    assert "version 2 (models/dense) is refused, the champion stays version 1: earlier" in capsys.readouterr().out
    (reviews / ".secateur" / "retrained.json").unlink()  # killed right after the verdict, or another clone
    assert retrain(reviews) == 0
    assert len(decisions(reviews)) == 2


def test_an_earlier_model_is_known_by_its_bytes(reviews: Path, measured: dict[str, Any], tmp_path: Path) -> None:
    """Those of its weights, or of a copy of it."""
    copy = tmp_path / "copy"
    shutil.copytree(reviews / "models/dense", copy)
    weights = file_hash(copy / "model.safetensors")
    write_rows(reviews / "rows.csv", rows(0, 300) + rows(1, 100))
    assert retrain(reviews) == 0
    assert file_hash(reviews / "models/dense/model.safetensors") != weights
    for name in (weights, str(copy)):
        with found(reviews, name) as it:
            assert (it.name, str(it.version.version), it.path) == (name, "1", "models/dense")
            assert list(verify(it)) == []
    (copy / "more.json").write_text("{}")
    with found(reviews, str(copy)) as it:
        assert [one.what for one in verify(it)] == ["more.json is not that of models/dense"]


def test_a_gate_that_asks_for_a_signature_gets_one(
    reviews: Path, measured: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = key_pair(tmp_path, "mine")
    write_rows(reviews / "rows.csv", rows(0, 300) + rows(1, 100))
    retrain(reviews, f"promote.key={public}")
    monkeypatch.setenv(SIGNING_KEY, str(private))
    write_rows(reviews / "rows.csv", rows(0, 300) + rows(1, 200))
    retrain(reviews, f"promote.key={public}")
    _, unsigned, signed = decisions(reviews)
    assert (unsigned["decision"], signed["decision"]) == ("refusal", "promotion")
    assert "there is none; make one" in unsigned["because"]
    (attested,) = [path for path in signed["committed"] if path.startswith("attestations/")]
    assert (reviews / attested).is_file()
    assert is_clean(reviews)


def test_data_that_are_not_fit_train_nothing(reviews: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip = {"pos": "neg", "neg": "pos"}
    write_rows(reviews / "rows.csv", [(text, flip[label]) for text, label in rows(0, 300)])
    assert retrain(reviews) == 1
    out = capsys.readouterr().out
    assert "nothing was trained, the new data are not fit: 300 of 300 known texts have another label" in out
    assert calls(reviews) == []
    assert len(decisions(reviews)) == 1
    assert [run.info.run_name for run in runs(reviews) if "data.sha256" in run.data.tags] == ["data unfit", "data fit"]


def test_data_without_form_are_a_mistake(reviews: Path) -> None:
    (reviews / "rows.csv").write_text("text,stars\na film,5\n")
    with pytest.raises(UserError, match=r"label.*text, stars"):
        retrain(reviews)
    assert calls(reviews) == []
