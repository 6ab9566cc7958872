"""Metrics against scikit-learn, intervals against a plain bootstrap, the budget, FLOPs and parameters."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from tiny import TASK, build, rows, uneven

from tasks.core.files import read_json
from tasks.evaluate import evaluate_round
from tasks.evaluate.timing import measure, peak_memory
from tasks.modeling.checkpoint import save
from tasks.modeling.inference import forward, logits
from tasks.modeling.shrink import mask, shrink
from tasks.modeling.size import flops, parameters
from tasks.recipe.budget import judge, verdict
from tasks.recipe.load import resolve
from tasks.text.classification import Classification
from tasks.text.metrics import Bootstrap, confusion, quality

METRICS = Classification.metrics
REFERENCE = {
    "accuracy": accuracy_score,
    "macro_f1": lambda true, predicted: f1_score(true, predicted, average="macro", zero_division=0),
    "matthews": matthews_corrcoef,
}


@pytest.mark.parametrize("name", sorted(METRICS))
@pytest.mark.parametrize("classes", [2, 4])
def test_equals_scikit_learn(name, classes):
    rng = np.random.default_rng(classes)
    true = rng.integers(0, classes, 200)
    for predicted in (rng.integers(0, classes, 200), np.where(rng.random(200) < 0.8, true, 0), np.zeros(200, int)):
        assert quality(METRICS[name], confusion(true, predicted, classes)) == pytest.approx(
            REFERENCE[name](true, predicted)
        )


@pytest.mark.parametrize("name", sorted(METRICS))
def test_bootstrap_is_the_plain_one(name):
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 80)
    a, b = (np.where(rng.random(80) < right, true, rng.integers(0, 3, 80)) for right in (0.9, 0.7))
    found, first, second = Bootstrap(METRICS[name], 80, 200, seed=5), confusion(true, a, 3), confusion(true, b, 3)
    draws = np.random.default_rng(5).integers(0, 80, (200, 80))
    lost = [REFERENCE[name](true[d], a[d]) - REFERENCE[name](true[d], b[d]) for d in draws]
    interval = found.drop(first, second)
    assert interval.value == pytest.approx(REFERENCE[name](true, a) - REFERENCE[name](true, b))
    np.testing.assert_allclose([interval.low, interval.high], np.percentile(lost, [2.5, 97.5]))
    assert found.drop(first, first) == found.drop(second, second)
    assert found.quality(first).low < found.quality(first).value < found.quality(first).high


def test_interval_covers():
    """Of 200 samples from a population of 80 % accuracy, the 95 % interval holds 80 % in about 95 of 100."""
    rng = np.random.default_rng(1)
    inside = 0
    for seed in range(200):
        true = rng.integers(0, 2, 300)
        predicted = np.where(rng.random(300) < 0.8, true, 1 - true)
        interval = Bootstrap(METRICS["accuracy"], 300, 300, seed).quality(confusion(true, predicted, 2))
        inside += interval.low <= 0.8 <= interval.high
    assert 178 <= inside <= 199


BUDGET = resolve(None, []).budget.model_copy(
    update={"max_drop": 0.01, "speedup_b1": 2.0, "speedup_b32": None, "max_flops": 0.5, "max_parameters": None}
)


@pytest.mark.parametrize(
    ("drop", "flops_share", "speedup", "state"),
    [
        (0.0, 0.4, 2.0, "met"),
        (0.01, 0.5, 3, "met"),
        (0.02, 0.4, 3, "broken"),
        (0.0, 0.6, 3, "continue"),
        (-0.1, 0.4, 1.9, "continue"),
    ],
)
def test_verdicts(drop, flops_share, speedup, state):
    checks = judge(BUDGET, {"drop": drop, "flops_share": flops_share, "speedup_b1": speedup})
    assert [check.name for check in checks] == ["max_drop", "speedup_b1", "max_flops"]
    assert verdict(checks) == state


@pytest.mark.parametrize(("share", "state", "timed"), [(0.1, "continue", False), (0.99, "met", True)])
def test_a_round_is_timed_only_if_its_speed_decides(monkeypatch, tmp_path, share, state, timed):
    dense, split = build("bert"), rows()
    save(dense, tmp_path / "dense")
    save(shrink(dense, uneven(dense)), tmp_path / "r1")
    (tmp_path / "teacher").mkdir()
    save_file(
        {"validation": torch.from_numpy(logits(forward(dense), split, 8))}, tmp_path / "teacher/logits.safetensors"
    )
    monkeypatch.setattr("tasks.evaluate.read_split", lambda *_: split)
    monkeypatch.setattr("tasks.evaluate.read_task", lambda *_: TASK)
    budget = BUDGET.model_copy(update={"max_drop": 1.0, "speedup_b1": 0.001, "max_flops": share})
    for out in ("out", "times"):
        (tmp_path / out).mkdir()
    evaluate_round(
        "r1", tmp_path / "r1", tmp_path / "dense", tmp_path / "teacher", tmp_path, budget, resolve(None, []).evaluate,
        "accuracy", tmp_path / "out", tmp_path / "times",
    )  # fmt: skip
    assert read_json(tmp_path / "out/verdict.json")["state"] == state
    assert set(read_json(tmp_path / "times/times.json")["models"]) == ({"dense", "r1-dynamic"} if timed else set())


def test_without_a_target_the_rounds_go_on():
    only_quality = BUDGET.model_copy(update={"speedup_b1": None, "max_flops": None})
    assert verdict(judge(only_quality, {"drop": 0.0})) == "continue"


def test_flops_follow_the_formula():
    """bert: 3 layers of width 32, 48 neurons; a head is 8 wide."""
    model, length = build("bert"), 10
    layer = 2 * length * (4 * 32 * 32 + 2 * 32 * 48) + 4 * length**2 * 32
    assert flops(model, length) == 3 * layer + 2 * (32 * 32 + 32 * 3)
    kept = uneven(model)
    smaller = shrink(model, kept)
    removed = sum(
        2 * length * 4 * 32 * 8 * (4 - len(h)) + 4 * length**2 * 8 * (4 - len(h)) + 2 * length * 2 * 32 * (48 - len(n))
        for h, n in zip(kept["head"], kept["neuron"], strict=True)
    )
    assert flops(smaller, length) == flops(model, length) - removed
    assert parameters(mask(model, kept)) == parameters(model) > parameters(smaller)


def test_order_and_padding_do_not_matter():
    model, split = build("bert"), rows(30)
    run = forward(model)
    np.testing.assert_allclose(logits(run, split, 7), logits(run, split, 30), atol=1e-5)
    one_by_one = np.concatenate([run(split.batch([i])) for i in range(30)])
    np.testing.assert_allclose(logits(run, split, 7), one_by_one, atol=1e-5)


def test_measures_in_turns():
    calls = []
    split = rows(70)
    settings = resolve(
        None, ["evaluate.repeats=3", "evaluate.latency_rows=4", "evaluate.throughput_batches=2"]
    ).evaluate

    def fake(name):
        def run(batch):
            calls.append((name, len(batch["input_ids"])))
            return np.zeros((len(batch["input_ids"]), 2), np.float32)

        return run

    figures = measure({"dense": fake("dense"), "small": fake("small")}, {"dense": split, "small": split}, settings)
    order = [name for i, (name, _) in enumerate(calls) if i == 0 or calls[i - 1][0] != name]
    assert order == ["dense", "small"] * 3
    assert {size for _, size in calls} == {1, 32}
    assert figures["dense"]["speedup_b1"] == figures["dense"]["speedup_b32"] == 1
    assert figures["small"]["latency_ms_b1"] <= figures["small"]["latency_ms_b1_p95"]


def test_peak_memory_sees_what_a_model_takes():
    def open_it():
        block = np.ones(30_000_000)
        return lambda batch: block[:1].astype(np.float32)

    _, peak = peak_memory(open_it, rows(2).batch([0]))
    assert peak is None or 200e6 < peak < 400e6
