"""A table of times planted in the models' sizes gives back the time of any plan."""

import pytest
from tiny import TASK, build, rows

from tasks.evaluate import table
from tasks.families import family_of
from tasks.modeling.checkpoint import save
from tasks.modeling.shrink import shrink
from tasks.recipe.load import resolve

COSTS = {"head": 0.004, "neuron": 0.0002, "attention": 0.005, "ffn": 0.003, "layer": 0.001}
BASE = 0.01


def seconds(model):
    """Linear in the units that are there."""
    there = family_of(model.config.model_type).groups(model)
    return BASE + sum(COSTS[group.kind] * group.count for group in there if group.kind in COSTS)


@pytest.fixture
def planted(monkeypatch):
    """At batch 32 everything takes 20 times as long; delivered models half of what PyTorch takes."""

    def measure(models, splits, settings):
        return {
            name: {"latency_ms_b1": 1000 * time, "throughput_b32": 32 / (20 * time)} for name, time in models.items()
        }

    monkeypatch.setattr(table, "read_split", lambda *_: rows(8))
    monkeypatch.setattr(table, "read_task", lambda *_: TASK)
    monkeypatch.setattr(table, "forward", lambda model: 2 * seconds(model))
    monkeypatch.setattr(table, "delivered", lambda model, *_: seconds(model))
    monkeypatch.setattr(table, "measure", measure)


@pytest.mark.parametrize(
    "kept",
    [
        {},
        {"head": [[0], [1, 2], [0, 1, 2, 3]]},
        {"head": [[0, 1], [0], [3]], "neuron": [list(range(8)), list(range(20)), list(range(48))]},
        {"ffn": [[], [0], [0]], "attention": [[0], [], [0]]},
        {"layer": [[0], [], [0]]},
    ],
)
def test_what_units_cost_adds_up(tmp_path, planted, kept):
    model = build("bert")
    dense, cut = tmp_path / "dense", tmp_path / "cut"
    save(model, dense)
    smaller = shrink(model, kept) if kept else model
    save(smaller, cut)
    settings = resolve(None, []).evaluate
    table.measure_table(dense, tmp_path, ("head", "neuron", "attention", "ffn", "layer"), 4, settings, tmp_path)
    found, expected = table.predict(tmp_path, cut), seconds(smaller)
    assert found["latency_ms_b1"] == pytest.approx(1000 * expected)
    assert found["throughput_b32"] == pytest.approx(32 / (20 * expected))
    assert [found["speedup_b1"], found["speedup_b32"]] == pytest.approx([2 * seconds(model) / expected] * 2)
