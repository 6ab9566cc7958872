"""What the gate asks for, and what promotion, refusal and rollback leave."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

import tasks.gate
from flows.lineage.chain import chain
from flows.lineage.find import found
from flows.lineage.verify import verify
from flows.promotion import promote as work
from flows.promotion.record import decisions
from flows.promotion.show import history
from flows.promotion.show import promote as shown
from flows.promotion.transaction import CHALLENGER, CHAMPION, PREVIOUS
from tasks.core.errors import UserError
from tasks.core.files import read_json, tree_hash, write_json
from tasks.gate import Comparison, compare, earlier
from tasks.recipe.load import read
from tests.flows.test_tracking import runs

GOOD = Comparison(50, 0.8, 0.8, 0.0, 0.005, 100, 100, 1.0, 1.0)
DENSE, STUDENT, PRUNED = "models/dense", "models/student", "models/rounds/r1"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Figures in place of real ones, by the name of the candidate's directory; what was compared with what."""
    found: dict[str, Any] = {"seen": []}

    def stand_in(candidate: Path, reference: Path, *_: Any) -> Comparison:
        found["seen"].append((tree_hash(candidate), tree_hash(reference)))
        return found.get(candidate.name, GOOD)

    monkeypatch.setattr(tasks.gate, "compare", stand_in)
    return found


def promote(root: Path, path: str) -> dict[str, Any]:
    record = work.promote(root, str(root / path))
    assert record
    return record


def test_promotions_a_refusal_and_a_rollback_leave_their_records(
    workspace: Path, measured: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = promote(workspace, DENSE), promote(workspace, STUDENT)
    assert work.promote(workspace, str(workspace / STUDENT)) is None
    measured["r1"] = replace(GOOD, drop_high=0.0101)
    third, fourth = promote(workspace, PRUNED), work.rollback(workspace, "users complain")
    assert [one["decision"] for one in (first, second, third, fourth)] == [
        "promotion",
        "promotion",
        "refusal",
        "rollback",
    ]
    assert second["after"] == {CHAMPION: "2", PREVIOUS: "1", CHALLENGER: None}
    assert third["after"] == {CHAMPION: "2", PREVIOUS: "1", CHALLENGER: "3"}
    assert fourth["after"] == {CHAMPION: "1", PREVIOUS: None, CHALLENGER: "3"}
    assert third["because"] == "margin 0.0101 is above 0.01"
    # without a champion the dense model of the run is the reference, then the champion is
    dense, student, pruned = (tree_hash(workspace / path) for path in (DENSE, STUDENT, PRUNED))
    assert measured["seen"] == [(dense, dense), (student, dense), (pruned, student)]
    assert third["evidence"]["drop_high"] == 0.0101
    assert third["thresholds"]["margin"] == 0.01
    recorded = {run.info.run_name: run.info.run_id for run in runs(workspace)}
    assert third["runs"].items() <= recorded.items()
    assert {"prepare", "train", "finetune@r1"} <= third["runs"].keys()
    history(workspace, True)
    assert json.loads(capsys.readouterr().out) == decisions(workspace) == [first, second, third, fourth]
    with pytest.raises(UserError, match="no previous champion"):
        work.rollback(workspace, "once more")


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({"drop_high": 0.02}, "margin"),
        ({"latency_ms_b1": 1.3}, "max_slowdown"),
        ({"bytes": 111}, "max_growth"),
    ],
)
def test_each_limit_refuses(finished: Path, measured: dict[str, Any], change: dict[str, Any], missed: str) -> None:
    from flows.lineage.find import found
    from flows.promotion.gate import judge

    measured["student"] = replace(GOOD, **change)
    with found(finished, str(finished / STUDENT)) as it:
        checks, _ = judge(it, finished / DENSE, None, read(finished / "params/pipeline.yaml"))
    assert [check.name for check in checks if not check.met] == [missed]


def test_a_model_whose_records_differ_is_refused_and_never_run(
    workspace: Path, measured: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    file = workspace / "data/scores/r1/made_of.json"
    file.write_text(file.read_text() + " ")
    assert shown(workspace, str(workspace / PRUNED)) == 1
    assert "missed  lineage: score@r1: files: data/scores/r1/made_of.json" in capsys.readouterr().out
    assert measured["seen"] == []
    assert decisions(workspace)[0]["after"] == {CHAMPION: None, PREVIOUS: None, CHALLENGER: "1"}


def test_the_comparison_is_that_of_the_noted_predictions(unbroken: Path) -> None:
    """Against predictions.parquet, with a bootstrap written out."""
    recipe = read(unbroken / "params/pipeline.yaml")
    quality = read_json(unbroken / "data/evaluate/test/quality.json")["models"]
    prepared, models = unbroken / "data/prepared", {name: unbroken / quality[name]["path"] for name in quality}
    one, other = "dense-dynamic", "pruned-fp32"
    found = compare(models[one], models[other], prepared, "accuracy", recipe.evaluate, 0, 1)
    table = pq.read_table(unbroken / "data/evaluate/test/predictions.parquet").to_pydict()
    hits = {name: np.array(table[name]) == np.array(table["label"]) for name in (one, other)}
    rows = len(table["label"])
    draws = np.random.default_rng(0).integers(0, rows, (recipe.evaluate.bootstrap, rows))
    drops = [hits[other][draw].mean() - hits[one][draw].mean() for draw in draws]
    assert (found.rows, found.bytes) == (rows, quality[one]["bytes"])
    assert found.quality == pytest.approx(quality[one]["quality"])
    assert found.drop == pytest.approx(quality[other]["quality"] - quality[one]["quality"])
    assert found.drop_high == pytest.approx(np.percentile(drops, 97.5))


def test_a_champion_with_another_tokenizer_cannot_be_compared(unbroken: Path, tmp_path: Path) -> None:
    recipe = read(unbroken / "params/pipeline.yaml")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="another tokenizer"):
        compare(unbroken / DENSE, tmp_path, unbroken / "data/prepared", "accuracy", recipe.evaluate, 0, 1)


def test_earlier_rows_are_those_the_candidate_did_not_learn_from(unbroken: Path, tmp_path: Path) -> None:
    """All test rows of the champion's data; then without two that are training rows now."""
    recipe = read(unbroken / "params/pipeline.yaml")
    theirs, ours = unbroken / "data/prepared", tmp_path / "prepared"
    noted = read_json(unbroken / "data/evaluate/test/quality.json")["models"]
    arguments = ("accuracy", recipe.evaluate, 0, 1)
    found = earlier(unbroken / PRUNED, unbroken / DENSE, theirs, theirs, *arguments)
    test = pq.read_table(theirs / "test.parquet")
    assert found.rows == len(test)
    assert (found.quality, found.reference_quality) == (noted["r1"]["quality"], noted["dense"]["quality"])
    assert found.drop == pytest.approx(found.reference_quality - found.quality)
    shutil.copytree(theirs, ours)
    train = pq.read_table(ours / "train.parquet")
    pq.write_table(pa.concat_tables([train, test.slice(3, 2)]), ours / "train.parquet")
    assert earlier(unbroken / PRUNED, unbroken / DENSE, theirs, ours, *arguments).rows == len(test) - 2
    facts = read_json(ours / "data.json")
    write_json(ours / "data.json", {**facts, "labels": ["good", "bad"]})
    with pytest.raises(UserError, match="the champion has the classes neg, pos, the candidate good, bad"):
        earlier(unbroken / PRUNED, unbroken / DENSE, theirs, ours, *arguments)


def test_a_changed_decision_and_a_changed_hash_in_the_registry_are_found(
    workspace: Path, measured: dict[str, Any]
) -> None:
    record = promote(workspace, DENSE)

    def differences() -> list[tuple[str, str]]:
        with found(workspace, "models:/quickstart@champion") as it:
            return [(one.where, one.record) for one in verify(it)]

    assert differences() == []
    file = workspace / "promotions" / f"{record['id']}.json"
    before = file.read_text()
    file.write_text(before.replace('"decision": "promotion"', '"decision": "rollback"'))
    where = f"rollback {record['id']}"
    assert differences() == [(where, "git"), (where, "MLflow")]
    file.write_text(before)
    client = MlflowClient(f"sqlite:///{workspace / '.secateur' / 'mlflow.db'}")
    client.set_model_version_tag("quickstart", "1", "sha256", "0" * 64)
    assert differences() == [("quickstart version 1", "MLflow")]


def test_a_clone_without_the_decisions_rolls_back(workspace: Path, measured: dict[str, Any]) -> None:
    promote(workspace, DENSE)
    promote(workspace, STUDENT)
    for file in (workspace / "promotions").iterdir():
        file.unlink()
    record = work.rollback(workspace, "users complain")
    assert record["after"] == {CHAMPION: "1", PREVIOUS: None, CHALLENGER: None}
    with found(workspace, "models:/quickstart@champion") as it:
        assert [one["id"] for one in chain(it).decisions] == [record["id"]]
