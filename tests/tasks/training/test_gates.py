"""L0 gates: the distribution's formulas, sparsity in the order of the price, and gates that fold away (invariant 5)."""

import numpy as np
import pytest
import torch
from course import KINDS, groups_of, kinds_of, run
from tiny import build, rows

from tasks.core.errors import UserError
from tasks.modeling.inference import forward, logits
from tasks.modeling.shrink import shrink
from tasks.training.extra import Extras
from tasks.training.gates import Gates
from tasks.training.pressure import Price, Target

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1


def gated(model, kinds=KINDS, pressure=None, **settings):
    gates = Gates(kinds, pressure or Price(1.0), seed=0, **settings)
    Extras([gates], model)
    return gates


def spread(gates):
    """Gives the gates different log_alpha, some shut, some open, some between."""
    for number, gate in enumerate(gates.gates):
        generator = torch.Generator().manual_seed(number)
        gate.log_alpha.data.copy_(6 * torch.rand(gate.log_alpha.shape, generator=generator) - 4)
    return gates


def outputs(model):
    return logits(forward(model), rows(), 8)


def test_samples_have_the_distribution_of_the_paper():
    """Share of zeros and ones, and the sample itself, against the formulas of the paper in float64."""
    gates = gated(build("bert")).gates[0].train()
    gates.log_alpha.data.copy_(torch.tensor([-2.0, 0.0, 1.0, 3.0]))
    alpha = gates.log_alpha.detach().double().numpy()
    drawn = []
    rng = np.random.default_rng(0)
    for _ in range(4000):
        u = rng.uniform(1e-6, 1 - 1e-6, 4)
        gates.noise.copy_(torch.from_numpy(u))
        expected = 1 / (1 + np.exp(-(np.log(u) - np.log(1 - u) + alpha) / BETA)) * (ZETA - GAMMA) + GAMMA
        drawn.append(gates.gates().detach().numpy())
        np.testing.assert_allclose(drawn[-1], expected.clip(0, 1), atol=1e-5)
    found = (np.array(drawn) > 0).mean(0)
    np.testing.assert_allclose(gates.open().detach(), found, atol=0.03)


def test_penalty_is_the_expected_share_of_weights():
    model = build("bert")
    sizes = {"head": 4 * 8 * 32 + 3 * 8, "neuron": 2 * 32 + 1}
    gates = spread(gated(model, pressure=Price(0.8)))
    expected, total = 0.0, 0
    for group, gate in zip(gates.gated, gates.gates, strict=True):
        alpha = gate.log_alpha.detach().double().numpy()
        expected += sizes[group.kind] * (1 / (1 + np.exp(-(alpha - BETA * np.log(-GAMMA / ZETA))))).sum()
        total += sizes[group.kind] * group.count
    assert gates.penalty().item() == pytest.approx(0.8 * expected / total, rel=1e-5)


def test_new_gates_change_nothing_in_eval():
    model = build("bert")
    before = outputs(model)
    gated(model)
    np.testing.assert_allclose(outputs(model), before, atol=1e-6)


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "xlnet", "gpt2", "llama"])
@pytest.mark.parametrize("number", [1, 2])
def test_shrunk_equals_gated(family, number):
    """Gates in eval mode, the folded model, and the shrunk one give the same logits."""
    model, kinds = build(family), kinds_of(family)[:number]
    heads = kinds[0]
    names, before = list(dict(model.named_parameters())), outputs(model)
    gates = spread(gated(model, kinds))
    gates.gates[0].log_alpha.data.fill_(-9.0)  # a layer whose gates are all shut keeps a head without output
    expected = outputs(model)
    assert np.abs(expected - before).max() > 1e-3
    kept = gates.fold(model)
    assert sorted(dict(model.named_parameters())) == sorted(names)
    assert len(kept[heads][0]) == 1
    np.testing.assert_allclose(outputs(model), expected, atol=1e-6)
    smaller = shrink(model, kept)
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())
    np.testing.assert_allclose(outputs(smaller), expected, atol=1e-5)
    if number == 1:
        assert kept["neuron"] == [list(range(group.count)) for group in groups_of(model) if group.kind == "neuron"]


@pytest.mark.parametrize(
    ("family", "kinds"),
    [
        ("bert", ("attention", "ffn")),
        ("xlnet", ("ffn",)),
        ("gpt2", ("attention", "head")),
        ("llama", ("ffn", "kv_group")),
    ],
)
def test_sublayers_with_shut_gates_go(family, kinds):
    model = build(family)
    before = sum(p.numel() for p in model.parameters())
    gates = gated(model, kinds)
    whole = [number for number, group in enumerate(gates.gated) if group.kind == kinds[0]]
    for number, alpha in zip(whole, (-9.0, -0.5, 9.0), strict=True):
        gates.gates[number].log_alpha.data.fill_(alpha)
    expected = outputs(model)
    kept = gates.fold(model)
    assert kept[kinds[0]] == [[], [0], [0]]
    smaller = shrink(model, kept)
    np.testing.assert_allclose(outputs(smaller), expected, atol=1e-5)
    assert before - sum(p.numel() for p in smaller.parameters()) == gates.sizes[whole[0]]


@pytest.mark.parametrize(("family", "kind"), [("llama", "head"), ("bert", "layer"), ("bert", "width")])
def test_refuses_units_that_cannot_have_gates(family, kind):
    with pytest.raises(UserError, match=f"gates: {kind} given, this model can have gates on attention, ffn, "):
        gated(build(family), ("neuron", kind))


def open_share(tmp_path, name, pressure, family="bert", **settings):
    gates = Gates(KINDS, pressure, seed=0, **{"learning_rate": 0.2, **settings})
    model, history = run(tmp_path / name, [gates], family, epochs=20, dropout=0.0)
    curve = history.extras["gates"]
    kept = gates.fold(model)
    sizes = {g.kind: sum(dict(model.named_parameters())[c.tensor].numel() for c in g.cuts) for g in groups_of(model)}
    counts = {(g.kind, g.layer): g.count for g in groups_of(model)}
    weighed = sum(sizes[k] * len(kept[k][i]) / count for (k, i), count in counts.items())
    return weighed / sum(sizes[k] for k, _ in counts), curve, kept


@pytest.mark.parametrize("family", ["bert", "xlnet"])
def test_three_prices_give_three_sparsities_in_order(tmp_path, family):
    found = [open_share(tmp_path, str(price), Price(price), family) for price in (0.0, 0.5, 10.0)]
    shares = [share for share, _, _ in found]
    assert shares[0] > shares[1] > shares[2]
    assert found[2][1][-1]["partial"] < 0.1  # gates become 0 or 1
    for share, curve, kept in found:
        if all(len(units) > 1 for layers in kept.values() for units in layers):  # none is kept without output
            assert curve[-1]["open"] == pytest.approx(share, abs=1e-6)
        assert curve[-1]["open"] <= share + 1e-6


@pytest.mark.parametrize("closed", [0.3, 0.6])
def test_lagrangian_reaches_its_target(tmp_path, closed):
    share, curve, _ = open_share(tmp_path, "a", Target(closed))
    assert curve[-1]["goal"] == closed
    assert curve[0]["goal"] < closed
    assert curve[-1]["expected"] == pytest.approx(1 - closed, abs=0.02)
    assert share == pytest.approx(1 - closed, abs=0.06)


def test_multipliers_rise_by_the_gap():
    """Three steps by hand: a += rate * gap, b += rate * gap^2."""
    target = Target(0.5, warmup=0.0, rate=2.0, square=3.0)
    linear, square = 0.0, 3.0
    for share in (1.0, 0.8, 0.4):
        gap = share - 0.5
        found = target.penalty(torch.tensor(share), 0, 10)
        assert found.item() == pytest.approx(linear * gap + square * gap**2, abs=1e-6)
        target.after_step()
        linear, square = linear + 2.0 * gap, square + 2.0 * gap**2
