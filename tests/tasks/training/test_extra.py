"""Extras in the loop: exact resume, penalties that count once a step, which epoch may be the result (invariant 7)."""

import numpy as np
import pytest
import torch
from course import KINDS, prune_randomly, run, weights
from tiny import build, rows

from tasks.core.files import read_json, write_json
from tasks.training.extra import Extra
from tasks.training.gates import Gates
from tasks.training.launch import launch
from tasks.training.movement import Movement
from tasks.training.pressure import Price, Target
from tasks.training.regularize import L1, L2, GroupLasso
from tasks.training.schedule import epoch_batches
from tasks.training.sparse import FixedZeros, Gradual, Regrowth

EVERYTHING = {
    "penalties": lambda: [L1(1e-3, KINDS), L2(1e-3, KINDS), GroupLasso(1e-3, KINDS)],
    "gates": lambda: [Gates(KINDS, Target(0.5), seed=3), Movement(KINDS, weights=True)],
    "gradual": lambda: [Gradual(0.6, KINDS, every=2, end=0.6), Movement(KINDS)],
    "sublayers": lambda: [Gates(("ffn", "neuron"), Price(2.0), seed=0)],
    "regrowth": lambda: [Regrowth(KINDS, every=2)],
    "fixed": lambda: [FixedZeros(KINDS), Gates(("head",), Price(2.0), seed=0)],
}


def assert_same(a, b, **tolerance):
    assert a.keys() == b.keys()
    for name, values in a.items():
        if tolerance and name.endswith("key.bias"):
            continue  # softmax does not see it: its gradient is rounding alone, which Adam scales up
        torch.testing.assert_close(values, b[name], **(tolerance or {"rtol": 0, "atol": 0}), msg=name)


class Cut(Extra):
    """Ends the training before step `step`, as a kill would."""

    name = "cut"

    def __init__(self, step):
        self.step = step

    def before_step(self, step, steps):
        if step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("family", "stop"), [("bert", 5), ("xlnet", 10), ("gpt2", 7)])
@pytest.mark.parametrize("which", EVERYTHING)
def test_resumes_exactly(tmp_path, which, family, stop):

    def trained(scratch, stop):
        model, extras = build(family), EVERYTHING[which]()
        prune_randomly(model, 0.4)
        _, history = run(scratch, [*extras, Cut(stop)], model=model)
        return weights(model), [extra.state() for extra in extras], history

    expected = trained(tmp_path / "unbroken", None)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "cut", stop)
    found = trained(tmp_path / "cut", None)
    assert_same(expected[0], found[0])
    for one, other in zip(expected[1], found[1], strict=True):
        assert_same(one, other)
    assert found[2] == expected[2]
    assert set(found[2].extras) == {extra.name for extra in EVERYTHING[which]()}
    write_json(tmp_path / "training.json", found[2].extras)
    assert read_json(tmp_path / "training.json") == found[2].extras


def scored(extras):
    return next(extra for extra in extras if isinstance(extra, Movement)).scores()


def mixed():
    return [GroupLasso(1e-2, KINDS), Movement(KINDS), Gates(KINDS, Target(0.5), seed=3, learning_rate=0.01)]


def test_counts_once_a_step_however_the_batch_is_split(tmp_path):
    whole, parts = mixed(), mixed()
    one, first = run(tmp_path / "a", whole)
    other, second = run(tmp_path / "b", parts, accumulate=4)
    assert_same(weights(one), weights(other), rtol=1e-3, atol=2e-4)
    assert_same(scored(whole), scored(parts), rtol=1e-3, atol=1e-4)
    for name, curve in first.extras.items():
        for a, b in zip(curve, second.extras[name], strict=True):
            assert a == pytest.approx(b, rel=1e-3, abs=1e-4)


def _in_processes(scratch, out):
    extras = mixed()
    model, history = run(scratch, extras)
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        torch.save([weights(model), scored(extras), history.extras], out)


def test_two_processes_equal_one(tmp_path):
    for count in (1, 2):
        launch(_in_processes, tmp_path / f"scratch{count}", tmp_path / f"out{count}", processes=count)
    one, two = (torch.load(tmp_path / f"out{count}") for count in (1, 2))
    assert_same(one[0], two[0], rtol=1e-3, atol=2e-4)
    assert_same(one[1], two[1], rtol=1e-3, atol=1e-4)
    assert one[2]["gates"][-1] == pytest.approx(two[2]["gates"][-1], rel=1e-3)


class Late(Extra):
    """Lets only epochs from `first` on be the result."""

    name = "late"

    def __init__(self, first):
        self.first = first

    def after_step(self, step, steps):
        self.epochs = step / 6

    def ready(self):
        return self.epochs >= self.first


@pytest.mark.parametrize(("first", "allowed"), [(1, range(8)), (4, range(3, 8)), (99, [7])])
def test_result_is_the_best_of_the_ready_epochs(tmp_path, first, allowed):
    _, history = run(tmp_path / "a", [Late(first)], epochs=8, learning_rate=5e-3)
    qualities = [entry["quality"] for entry in history.validation]
    assert history.best() == max(allowed, key=lambda epoch: (qualities[epoch], -epoch))


def test_patience_waits_for_ready_epochs(tmp_path):
    _, history = run(tmp_path / "a", [Late(99)], epochs=6, patience=1)
    assert len(history.validation) == 6


class Gradients(Extra):
    """Keeps the last step's gradients."""

    name = "gradients"

    def attach(self, model, parameters, groups):
        self.parameters = parameters
        return []

    def gradients(self, step, steps):
        self.last = {name: p.grad.clone() for name, p in self.parameters.items() if p.grad is not None}


@pytest.mark.parametrize("accumulate", [1, 4])
def test_gradient_is_that_of_loss_and_penalties_together(tmp_path, accumulate):
    seen = Gradients()
    extras = [L2(0.3, ("neuron",)), L1(0.2, ("neuron",)), seen]
    run(tmp_path / "a", extras, epochs=1 / 6, accumulate=accumulate, freeze_embeddings=False)
    naive, split = build("bert").train(), rows(44)
    chosen = epoch_batches(split.lengths, 8, 0, 0)[0]
    batch = {name: torch.from_numpy(array) for name, array in split.batch(chosen).items()}
    loss = torch.nn.functional.cross_entropy(naive(**batch).logits, torch.from_numpy(split.labels[chosen]))
    neurons = [p for p in naive.parameters() if p.shape in ((48, 32), (32, 48))]
    assert len(neurons) == 6
    (loss + sum(0.3 * (p**2).sum() + 0.2 * p.abs().sum() for p in neurons)).backward()
    for name, parameter in naive.named_parameters():
        np.testing.assert_allclose(seen.last[name], parameter.grad, rtol=1e-4, atol=1e-6, err_msg=name)


def test_names_must_differ(tmp_path):
    with pytest.raises(ValueError, match="different names"):
        run(tmp_path / "a", [L1(0.1, KINDS), L1(0.2, KINDS)])
