"""A table of times planted in the models' sizes gives back the time of any plan."""

import numpy as np
import pytest
from tiny import TASK, build, rows

from tasks.allocate.times import BATCH_1, against_whole
from tasks.core.files import read_json
from tasks.evaluate import table
from tasks.families import family_of
from tasks.modeling.checkpoint import save
from tasks.modeling.shrink import shrink
from tasks.recipe.load import resolve

COSTS = {"head": 0.004, "neuron": 0.0002, "attention": 0.005, "ffn": 0.003, "layer": 0.001}
BASE = 0.01


def seconds(model):
    """Linear in the units that are there; those of the last layer cost a quarter, as only the first token is read."""
    there, last = family_of(model.config.model_type).groups(model), model.config.num_hidden_layers - 1
    share = {layer: 0.25 if layer == last else 1.0 for layer in range(last + 1)}
    return BASE + sum(COSTS[g.kind] * g.count * share[g.layer] for g in there if g.kind in COSTS)


@pytest.fixture
def planted(monkeypatch):
    """At batch 32 everything takes 20 times as long; delivered models half of what PyTorch takes."""

    def least(models, split, settings):
        return {name: [time, 20 * time] for name, time in models.items()}

    monkeypatch.setattr(table, "read_split", lambda *_: rows(8))
    monkeypatch.setattr(table, "read_task", lambda *_: TASK)
    monkeypatch.setattr(table, "forward", lambda model: 2 * seconds(model))
    monkeypatch.setattr(table, "delivered", lambda model, *_: seconds(model))
    monkeypatch.setattr(table, "least", least)


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


def test_a_sublayer_goes_with_its_last_unit(tmp_path, planted):
    model = build("bert")
    save(model, tmp_path / "dense")
    kinds = ("head", "neuron", "attention", "ffn")
    table.measure_table(tmp_path / "dense", tmp_path, kinds, 4, resolve(None, []).evaluate, tmp_path)
    found = read_json(tmp_path / table.FILE)
    for kind, whole, count in (("head", "attention", 4), ("neuron", "ffn", 48)):
        for layer, share in enumerate((1, 1, 0.25)):
            more = against_whole(found, kind, BATCH_1)[layer]
            saved = share * (COSTS[whole] + count * COSTS[kind])
            assert more(np.array([0, count])).tolist() == pytest.approx([-saved, 0])
            assert float(against_whole(found, whole, BATCH_1)[layer].seconds[0]) == pytest.approx(-saved)


def test_noise_at_the_full_number_of_units_saves_nothing_elsewhere():
    entry = {"layers": [0], "levels": [1, 3, 4], "saved": [[2.0, 0], [-1.0, 0]]}  # 3 were slower than all 4
    more = against_whole({"kinds": {"head": [entry]}}, "head", BATCH_1)[0]
    assert more(np.array([1, 3, 4])).tolist() == [-2.0, 0.0, 0.0]
