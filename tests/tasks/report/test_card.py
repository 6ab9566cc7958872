"""Model cards: header as the hub reads it, figures of the run, lineage of this model alone."""

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from test_report import change

from tasks.core.files import read_json, tree_hash
from tasks.recipe.load import read
from tasks.recipe.schema import METRICS
from tasks.report.card import PIPELINE_TAGS, SECTIONS, ancestry, loading, write_cards
from tasks.report.digest import digest
from tasks.report.lineage import lineage
from tests.conftest import MODELS


def written(root: Path) -> Path:
    """As the report writes them, without its pictures."""
    recipe, data, models = read(root / "params/pipeline.yaml"), root / "data", root / "models"
    outs = [data / name for name in ("prepared", "rounds", "evaluate", "times")]
    facts = digest(recipe, *outs, models)
    facts["lineage"] = lineage([*outs, data / "scores", models])
    write_cards(recipe, facts, root, root / "cards")
    return root / "cards"


@pytest.fixture
def cards(finished_run: Path) -> Path:
    return written(finished_run)


def table(text: str, heading: str) -> list[list[str]]:
    """Cells of the table under a heading, without its first two lines."""
    lines = text.partition(f"## {heading}\n")[2].partition("\n## ")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")][2:]


def test_every_model_has_one(cards: Path) -> None:
    assert {path.name for path in cards.iterdir()} == set(MODELS)


def test_the_hub_understands_the_header(cards: Path) -> None:
    known = ModelCard.load(cards / "pruned-static/README.md").data
    assert known.library_name == "onnx"
    assert known.pipeline_tag == "text-classification"
    assert known.tags == ["secateur", "pruned", "static"]
    (result,) = known.eval_results or []
    assert (result.metric_type, result.metric_value, result.dataset_split) == ("accuracy", 0.818, "test")
    assert ModelCard.load(cards / "student/README.md").data.tags == ["secateur", "distilled"]
    assert known.base_model is None


def test_what_came_from_the_hub_is_named(finished_run: Path) -> None:
    pipeline = finished_run / "params/pipeline.yaml"
    source = read(pipeline).model.source
    pipeline.write_text(pipeline.read_text().replace(source, "hf://org/name@main"))
    text = written(finished_run) / "r1/README.md"
    assert ModelCard.load(text).data.base_model == "org/name"


def test_figures_are_those_of_the_run(cards: Path) -> None:
    text = (cards / "pruned-dynamic/README.md").read_text()
    rows = {row[0]: row for row in table(text, "Measured")}
    assert list(rows) == ["dense", "r2", "**pruned-dynamic**"]
    for name, row in rows.items():
        _, _, quality, millions, _, latency, throughput = MODELS[name.strip("*")]
        assert row[1] == f"{quality:.3f}"
        assert row[4] == f"{millions}\u00a0M"
        assert float(row[6]) == latency
        assert row[7].replace("\u202f", "") == str(throughput)
        assert float(row[8]) == pytest.approx(9.8 / latency, abs=0.006)
    limits = table(text, "Budget")
    assert [(row[0], row[3]) for row in limits] == [
        ("Loss of quality", "yes"), ("Speed at batch 1", "yes"), ("Speed at batch 32", "no")
    ]  # fmt: skip


def test_lineage_is_that_of_the_model(finished_run: Path, cards: Path) -> None:
    made = [record["out"] for record in read_json(cards / "pruned-dynamic/provenance.json")]
    assert made[0] == "data/prepared"
    assert made[-1] == "models/quantized/pruned"
    assert set(made) == {
        "data/prepared", "models/dense", "models/quantized/pruned",
        *(f"{out}/r{n}" for out in ("data/scores", "models/cut", "models/rounds") for n in (1, 2)),
    }  # fmt: skip
    for record in read_json(cards / "student-fp32/provenance.json"):
        assert record["sha256"] == tree_hash(finished_run / record["out"])
        assert f"`{record['sha256']}`" in (cards / "student-fp32/README.md").read_text()
        assert record["packages"]["torch"]


def test_an_input_of_many_outs_counts_for_the_one_that_was_used() -> None:
    def entry(out: str, *inputs: str) -> dict[str, Any]:
        return {"out": out, "inputs": [{"path": path} for path in inputs]}

    lineage = [
        entry("m/dense"), entry("m/rounds/r1", "m/dense"), entry("m/rounds/r2", "m/rounds/r1"),
        entry("m/rounds/r10", "m/rounds/r2"), entry("q/pruned", "m/rounds"),
    ]  # fmt: skip
    found = [one["out"] for one in ancestry(lineage, "q/pruned/dynamic", "m/rounds/r1")]
    assert found == ["m/dense", "m/rounds/r1", "q/pruned"]


def test_hashes_of_the_weights(finished_run: Path) -> None:
    weights = finished_run / "models/quantized/pruned/static/model.onnx"
    weights.parent.mkdir()
    weights.write_bytes(b"graph")
    text = (written(finished_run) / "pruned-static/README.md").read_text()
    assert [tree_hash(weights)] == [row[2].strip("`") for row in table(text, "Lineage") if "model.onnx" in row[0]]


def test_a_model_that_was_not_timed_has_dashes(finished_run: Path) -> None:
    change(finished_run / "data/times/test/times.json", lambda value: value["models"].pop("r1"))
    text = (written(finished_run) / "r1/README.md").read_text()
    assert table(text, "Measured")[-1][6:] == ["–"] * 5


def test_every_task_says_how_it_is_loaded(finished_run: Path) -> None:
    assert set(SECTIONS) == set(PIPELINE_TAGS) == set(METRICS)
    recipe = read(finished_run / "params/pipeline.yaml")
    assert "onnxruntime" not in loading(recipe, graph=False)
    assert loading(recipe, graph=True).count("```python") == 2
