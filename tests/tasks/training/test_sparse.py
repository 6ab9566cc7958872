"""Masks: zeros that stay, exact sparsity on the cubic schedule, regrowth by the rule of RigL."""

import math

import pytest
import torch
from course import KINDS, groups_of, kinds_of, prune_randomly, run, weights
from tiny import build

from tasks.core.errors import UserError
from tasks.training.extra import Extra
from tasks.training.sparse import FixedZeros, Gradual, Regrowth


def two_of_four(model, kinds):
    masks = {}
    for group in groups_of(model, kinds):
        for cut in group.cuts:
            weight = dict(model.named_parameters())[cut.tensor]
            if weight.ndim > 1:
                fours = weight.data.reshape(-1, 4)
                mask = torch.zeros_like(fours, dtype=torch.bool).scatter_(1, fours.abs().topk(2).indices, True)
                masks[cut.tensor] = mask.view_as(weight)
                weight.data.mul_(masks[cut.tensor])
    return masks


@pytest.mark.parametrize("family", ["bert", "xlnet", "gpt2", "llama"])
@pytest.mark.parametrize("prune", [two_of_four, lambda model, kinds: prune_randomly(model, 0.4, kinds)])
def test_zeros_stay_and_the_rest_learns(tmp_path, family, prune):
    model, kinds = build(family), kinds_of(family)
    masks = prune(model, kinds)
    before = weights(model)
    run(tmp_path / "a", [FixedZeros(kinds)], model=model)
    for name, mask in masks.items():
        after = weights(model)[name]
        assert (after[~mask] == 0).all()
        if "seg_embed" not in name and "r_s_bias" not in name:  # the rows have no segments
            assert (after[mask] != before[name][mask]).float().mean() > 0.9, name
    unmasked = build(family)
    prune(unmasked, kinds)
    run(tmp_path / "b", model=unmasked)
    assert any((weights(unmasked)[name][~mask] != 0).any() for name, mask in masks.items())


class Watch(Extra):
    """Zeros of each matrix after every step."""

    name = "watch"

    def __init__(self, masked):
        self.masked, self.zeros, self.masks = masked, [], []

    def after_step(self, step, steps):
        self.zeros.append({name: int((weight == 0).sum()) for name, weight in self.masked.weights.items()})
        self.masks.append({name: mask.clone() for name, mask in self.masked.masks.items()})


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_gradual_follows_the_cubic_schedule_exactly(tmp_path, scope):
    gradual = Gradual(0.7, KINDS, every=3, begin=0.1, end=0.75, scope=scope)
    watch = Watch(gradual)
    model, history = run(tmp_path / "a", [gradual, watch], epochs=5)
    total = {name: weight.numel() for name, weight in gradual.weights.items()}
    first, last, reached = 3, round(0.75 * 30), 0.0
    for step, zeros in enumerate(watch.zeros, start=1):
        if step == last or (first <= step < last and (step - first) % 3 == 0):
            reached = 0.7 + (0 - 0.7) * (1 - (step - first) / (last - first)) ** 3
        if scope == "layer":
            assert zeros == {name: round(reached * count) for name, count in total.items()}
        else:
            assert sum(zeros.values()) == round(reached * sum(total.values()))
    for before, after in zip(watch.masks, watch.masks[1:], strict=False):
        assert all((after[name] <= before[name]).all() for name in after)
    found = weights(model)
    assert sum(int((found[n] == 0).sum()) for n in total) == pytest.approx(0.7 * sum(total.values()), abs=len(total))
    assert history.unready == 3  # of five epochs of six steps, two end after the last pruning
    assert history.extras["gradual"][-1]["sparsity"] == pytest.approx(0.7, abs=1e-3)
    if scope == "global":
        assert len({round(zeros / total[name], 2) for name, zeros in watch.zeros[-1].items()}) > 1


def test_gradual_takes_the_smallest():
    gradual = Gradual(0.5, KINDS, every=1)
    model = build("bert")
    gradual.attach(model, dict(model.named_parameters()), groups_of(model))
    before = weights(model)
    gradual.after_step(70, 100)
    for name, mask in gradual.masks.items():
        size = before[name].abs()
        assert size[~mask].max() <= size[mask].min()
        assert int((~mask).sum()) == round(0.5 * mask.numel())


def test_regrowth_keeps_the_sparsity_and_moves_the_zeros(tmp_path):
    model = build("bert")
    start = prune_randomly(model, 0.6)
    regrowth = Regrowth(KINDS, every=3, rate=0.3, end=0.75)
    watch = Watch(regrowth)
    _, history = run(tmp_path / "a", [regrowth, watch], model=model, epochs=5)
    living = {name: int(mask.sum()) for name, mask in start.items()}
    assert all({n: int(m.sum()) for n, m in masks.items()} == living for masks in watch.masks)
    moved = [
        step
        for step, (a, b) in enumerate(zip([start, *watch.masks], watch.masks, strict=False))
        if any((a[name] != b[name]).any() for name in a)
    ]
    assert moved == [3, 6, 9, 12, 15, 18, 21]
    assert history.unready == 3
    found = weights(model)
    for name, mask in watch.masks[-1].items():
        assert (found[name][~mask] == 0).all()


def test_regrowth_drops_the_smallest_and_grows_the_steepest():
    """One update against a naive one with sorted lists."""
    model = build("bert")
    prune_randomly(model, 0.5)
    regrowth = Regrowth(KINDS, every=4, rate=0.4)
    parameters = dict(model.named_parameters())
    regrowth.attach(model, parameters, groups_of(model))
    before = {name: mask.clone() for name, mask in regrowth.masks.items()}
    generator = torch.Generator().manual_seed(0)
    for weight in regrowth.weights.values():
        weight.grad = torch.randn(weight.shape, generator=generator)
    slopes = {name: weight.grad.flatten().tolist() for name, weight in regrowth.weights.items()}
    regrowth.gradients(8, 40)
    share = 0.4 / 2 * (1 + math.cos(math.pi * 8 / 30))
    for name, weight in regrowth.weights.items():
        values, alive = weight.flatten().tolist(), before[name].flatten().tolist()
        living = sorted((i for i, lives in enumerate(alive) if lives), key=lambda i: abs(values[i]))
        count = round(share * len(living))
        stays = set(living[count:])
        dead = sorted((i for i in range(len(values)) if i not in stays), key=lambda i: -abs(slopes[name][i]))
        expected = stays | set(dead[:count])
        assert set(regrowth.masks[name].flatten().nonzero().flatten().tolist()) == expected
        assert (weight.grad[~regrowth.masks[name]] == 0).all()


def test_refuses_what_cannot_be():
    with pytest.raises(UserError, match="0 <= sparsity < 1"):
        Gradual(1.5, KINDS, every=1)
    with pytest.raises(UserError, match="every >= 1"):
        Regrowth(KINDS, every=0)
    model = build("bert")
    with pytest.raises(UserError, match="prune it to its sparsity first"):
        Regrowth(KINDS, every=1).attach(model, dict(model.named_parameters()), groups_of(model))
