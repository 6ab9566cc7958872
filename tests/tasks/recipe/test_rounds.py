"""What the pipeline is made of follows from the recipe."""

from pathlib import Path

import pytest

from tasks.recipe.load import dag, resolve

PARAMS = Path(__file__).parents[3] / "params"
SHIPPED = sorted(path.stem for path in PARAMS.glob("*.yaml") if path.stem not in ("default", "pipeline"))


def _both(head: float, neuron: float) -> dict[str, dict[str, float]]:
    return {"head": {"share": head}, "neuron": {"share": neuron}}


def test_dag_follows_the_recipe() -> None:
    recipe = resolve(
        None, ["prune.rounds=[0.3, {head: 0.5, neuron: 0.6}]", "quantize.models=[pruned]", "data.source=a/b.csv"]
    )
    always = {"early": "models/dense/provenance.json", "times": "models/dense/provenance.json"}
    assert dag(recipe) == {
        "data": "a/b.csv",
        "model": "tasks/sources",
        "student": "tasks/sources",
        "curves": None,
        "table": {},
        "rounds": {
            "r1": {"model": "models/dense", "after": "data/teacher", **always, "goal": _both(0.3, 0.3)},
            "r2": {"model": "models/rounds/r1", "after": "data/rounds/r1", **always, "goal": _both(0.5, 0.6)},
        },
        "evaluate": {
            "r1": {"models": "models/rounds/r1", "reads": "data/teacher", "out": "data/rounds/r1"},
            "r2": {"models": "models/rounds/r2", "reads": "data/teacher", "out": "data/rounds/r2"},
            "test": {"models": "models", "reads": "data/rounds", "out": "data/evaluate/test"},
        },
        "quantize": {"pruned": {"models": "models/rounds", "reads": "data/rounds"}},
    }


@pytest.mark.parametrize("allocation", ["uniform", "global", "sensitivity", "solve"])
def test_curves_are_measured_where_the_allocation_goes_by_them(allocation: str) -> None:
    """So one file of scores serves all budgets, and both allocations of each sort."""
    found = dag(resolve(None, [f"prune.allocation={allocation}", "prune.rows=99"]))["curves"]
    asked = {"align": 8, "reconstruct": True, "rows": 99, "sensitivity_rows": 128, "batch_size": 32}
    asked |= {"damping": 0.01}
    assert found == (asked if allocation in ("sensitivity", "solve") else None)
    other = resolve(None, [f"prune.allocation={allocation}", "prune.rows=99", "prune.rounds=[0.2]"])
    assert dag(other)["curves"] == found


def test_a_round_of_latency_hangs_on_the_table_of_times() -> None:
    found = dag(resolve(None, ["prune.allocation=solve", "prune.rounds=[0.2, {latency: 0.6}]"]))
    assert found["table"] == {"dense": {}}
    times = [entry["times"] for entry in found["rounds"].values()]
    assert times == ["models/dense/provenance.json", "data/times/table"]
    assert found["rounds"]["r2"]["goal"] == {"latency": 0.6}


def test_dvc_watches_what_the_student_starts_from() -> None:
    assert dag(resolve(None, ["distill.source=models/other"]))["student"] == "models/other"
    assert dag(resolve(None, ["distill.source=hf://a/b@c"]))["student"] == "tasks/sources"


def test_the_dag_says_what_each_round_removes() -> None:
    item = dag(resolve(None, ["prune.kinds=[neuron]"]))["rounds"]["r1"]
    assert set(item) == {"model", "after", "early", "times", "goal"}
    back = resolve(None, ["train.early=0.1", "prune.rewind=true"])
    assert {item["early"] for item in dag(back)["rounds"].values()} == {"models/dense/early"}
