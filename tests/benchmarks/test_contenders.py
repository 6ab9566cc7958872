"""The pure parts of the comparison with other tools, against brute force and naive formulas."""

import json
import math
import re
import statistics
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from contenders import profile, rate, recovery, run, secateur, table
from contenders.figures import Figures, chosen, figures, points
from contenders.fronts import Point, best_other, front, speed_at
from contenders.registry import CONTENDERS, DENSE, INT8, OURS
from contenders.settings import STEPS
from hypothesis import given
from hypothesis import strategies as st

ROWS = 9997
"""Of the training split, which the budget is stated for."""
REPOSITORY = Path(__file__).parents[2]
SOME = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=12).map(
    lambda pairs: [Point(str(i), q / 10, float(s)) for i, (q, s) in enumerate(pairs)]
)


@given(SOME)
def test_a_front_is_what_nothing_dominates(some):
    found = {(p.quality, p.speed) for p in front(some)}
    assert found == {
        (p.quality, p.speed)
        for p in some
        if not any(
            o.quality >= p.quality and o.speed >= p.speed and (o.quality, o.speed) != (p.quality, p.speed) for o in some
        )
    }
    assert len(found) == len(front(some))


@given(SOME, st.floats(0.05, 0.95))
def test_the_speed_at_a_quality_is_numpys_interpolation_of_its_logarithm(some, quality):
    speed = speed_at(some, quality)
    if not some or quality > max(p.quality for p in some):
        assert speed is None
        return
    ends = sorted(front(some), key=lambda p: p.quality)
    logs = np.interp(quality, [p.quality for p in ends], [math.log(p.speed) for p in ends])
    assert speed == pytest.approx(math.exp(logs))


def test_the_best_other_is_not_ours_and_reaches_the_quality():
    sets = {
        "ours": [Point("a", 0.9, 50.0)],
        "good": [Point("b", 0.9, 2.0), Point("c", 0.7, 8.0)],
        "fast": [Point("d", 0.7, 9.0)],
    }
    assert best_other(sets, "ours", 0.8) == ("good", pytest.approx(4.0))
    assert best_other(sets, "ours", 0.7) == ("fast", 9.0)
    assert best_other(sets, "ours", 0.95) is None
    said = table.at_equal_accuracy([sets, sets], "ours", 0.9).splitlines()[2].split(" | ")
    assert said[:4] == ["| +0.00", "50.00", "2.00 (good)", "25.00"]


def made(contender, point, seed, test, validation):
    line = {"contender": contender, "point": point, "seed": seed, "bytes": 100 + seed, "steps": 5}
    return {**line, "quality": {"test": test, "validation": validation}}


def passed(name, number, b1, b32):
    return {"kind": "pass", "name": name, "pass": number, "b1": b1, "b32": b32}


def test_figures_are_means_over_seeds_of_medians_over_passes():
    lines = [made("pytorch", "fp32", s, 0.8 + s / 100, 0.9) for s in (0, 1)]
    lines += [made("ort", "int8", s, 0.7, 0.8) for s in (0, 1)]
    lines += [{"contender": "ort", "point": "int8", "seed": 2, "error": "no"}, made("ort", "int8", 3, 0.0, 0.0)]
    timed = [{"kind": "session"}, {"kind": "memory", "name": "ort int8 0", "bytes": 7}]
    for seed in (0, 1):
        timed += [passed(f"pytorch fp32 {seed}", n, [8.0, 10.0 + n, 12.0], [100.0]) for n in range(3)]
        timed += [passed(f"ort int8 {seed}", n, [2.0, 2.0 + seed, 9.0], [50.0, 10.0, 40.0]) for n in range(3)]
    found = figures(lines, timed, "pytorch fp32", (0, 1, 2))
    dense, int8 = found["pytorch fp32"], found["ort int8"]
    assert (dense.test, int8.test, dense.seeds) == (pytest.approx(0.805), pytest.approx(0.7), 2)
    assert dense.spread == pytest.approx(statistics.stdev([0.8, 0.81]))
    base = statistics.median([8, 10, 12, 8, 11, 12, 8, 12, 12])
    assert int8.speedups == (pytest.approx((base / 2 + base / 3) / 2), pytest.approx(100 / 40))
    assert dense.speedups == (1.0, 1.0)
    assert int8.rows == pytest.approx(32 / 0.040)
    assert (int8.bytes, int8.memory, dense.memory) == (100.5, 7, None)
    sets = points(found.values(), 1, int8, ["pytorch", "layers"])
    assert [p.speed for p in sets["pytorch"]] == [1.0, pytest.approx(2.5)]
    assert set(sets) == {"pytorch", "ort"}


def test_choosing_looks_at_validation_alone():
    def one(point, test, validation, speeds):
        return Figures("tool", point, 1, test, 0.0, validation, 1.0, 0.0, speedups=speeds)

    dense = one("dense", 0.9, 0.90, (1.0, 1.0))
    ones = [one("a", 0.9, 0.89, (3.0, 2.0)), one("b", 0.1, 0.891, (2.5, 2.4)), one("c", 0.9, 0.88, (9.0, 9.0))]
    assert chosen(ones, dense, 0.01)["tool"].point == "b"
    assert chosen(ones, dense, 0.02)["tool"].point == "c"
    assert chosen(ones, dense, 0.001) == {}


def test_a_profile_counts_the_operations_of_an_int8_product(tmp_path):
    weight = np.random.default_rng(0).integers(-127, 128, (24, 40), np.int8)
    (tmp_path / "model.onnx").write_bytes(rate.product(24, 40, weight))
    batches = [{"a": np.full((rows, 24), 7, np.uint8)} for rows in (3, 5)]
    found = profile.profile(tmp_path, batches, threads=1)
    assert found["operations"] == 2 * 4 * 24 * 40
    assert set(found["ms"]) == {"MatMulInteger"}


def test_distillation_is_its_formula():
    generator = torch.Generator().manual_seed(0)
    said, taught = (torch.randn(6, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    labels = torch.tensor([0, 1, 2, 2, 1, 0])

    class Teacher(torch.nn.Module):
        def forward(self, input_ids):
            return type("Output", (), {"logits": taught})

    loss = recovery.distillation(Teacher(), temperature=3.0, alpha=0.25)(said, {"input_ids": labels, "labels": labels})

    def softmax(values):
        parts = np.exp(values)
        return parts / parts.sum(-1, keepdims=True)

    p, q = softmax(taught.numpy() / 3), softmax(said.numpy() / 3)
    soft = (p * np.log(p / q)).sum(-1).mean() * 9
    hard = -np.log(softmax(said.numpy())[np.arange(6), labels.numpy()]).mean()
    assert float(loss) == pytest.approx(0.25 * hard + 0.75 * soft)


@pytest.mark.parametrize("point", CONTENDERS[OURS].points)
def test_every_recipe_of_ours_keeps_to_the_budget(point):
    chain, recipe = secateur.read(secateur.text(point), STEPS, seed=1)
    assert recipe.seed == 1
    rounds = len(recipe.prune.goals) if "prune" in chain else 0
    epochs = recipe.distill.epochs * ("distill" in chain) + recipe.finetune.epochs * rounds
    assert math.ceil(ROWS / 32) * epochs <= secateur.steps(chain, recipe, ROWS) + 1e-6 <= STEPS + 1
    assert secateur.steps(*secateur.read(secateur.text(point), 10, seed=0), ROWS) <= 10


def test_a_recipe_whose_chain_is_unknown_is_refused():
    with pytest.raises(ValueError, match="may name distill, prune"):
        secateur.read("chain: [fly]", STEPS, 0)


def test_raw_figures_keep_the_last_line_of_an_artefact(tmp_path):
    file = tmp_path / "results" / "raw.jsonl"
    for seed, value in ((0, "error"), (1, 2), (0, 3)):
        run.keep({"contender": "a", "point": "b", "seed": seed, "value": value}, file)
    assert [(line["seed"], line["value"]) for line in run.lines(file)] == [(1, 2), (0, 3)]


def test_a_failure_is_kept_in_the_words_of_its_exception():
    said = "Traceback (most recent call last):\n  File\nValueError: no such thing\nLoading weights: 100%|███|\n"
    assert run.error(said) == "ValueError: no such thing"
    assert run.error("a.b.TimeoutException: too long\nsee FAQ\n") == "a.b.TimeoutException: too long"
    assert run.error("Killed\n") == ""


def test_tools_are_pinned_and_no_part_of_the_product():
    needs = (REPOSITORY / "tests/benchmarks/contenders/requirements.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in needs if "==" in line)
    assert {package for contender in CONTENDERS.values() for package in contender.packages} <= set(pinned)
    ours = dict(re.findall(r"^([\w-]+)==(\S+)$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE))
    assert {name: version for name, version in pinned.items() if name in ours}.items() <= ours.items()
    product = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    listed = json.dumps([product["dependencies"], product["optional-dependencies"]])
    assert not [tool for tool in ("textbrewer", "torch-pruning", "torchao", "nncf", "openvino") if tool in listed]


def test_speedups_are_against_contenders_that_there_are():
    for name, point in (DENSE, INT8):
        assert point in CONTENDERS[name].points
    assert next(iter(CONTENDERS)) == DENSE[0]
