"""L1, L2 and group lasso equal their formulas, and more of them leaves less (invariant 5)."""

import numpy as np
import pytest
import torch
from course import KINDS, groups_of, kinds_of, run, sliced
from tiny import build

from tasks.core.errors import UserError
from tasks.training.extra import Extras
from tasks.training.regularize import L1, L2, GroupLasso


def attached(extra, model):
    Extras([extra], model)
    return extra


def naive_units(model, kinds=KINDS):
    """The weights of every unit as one float64 vector, cut out of each tensor entry by entry."""
    parameters = {name: p.detach().double().numpy() for name, p in model.named_parameters()}
    for group in groups_of(model, kinds):
        for unit in range(group.count):
            pieces = [piece for cut in group.cuts for piece in sliced(parameters[cut.tensor], cut, unit)]
            yield group, unit, np.concatenate([piece.ravel() for piece in pieces])


@pytest.mark.parametrize("family", ["bert", "distilbert", "xlnet", "gpt2", "llama"])
def test_penalties_equal_their_formulas(family):
    model, kinds = build(family), kinds_of(family)
    lasso = 0.7 * sum(np.sqrt(len(w)) * np.sqrt((w**2).sum()) for _, _, w in naive_units(model, kinds))
    assert attached(GroupLasso(0.7, kinds), model).penalty().item() == pytest.approx(lasso, rel=1e-5)
    for kind in ("head", "attention", "width"):
        if kind != "attention" or family != "xlnet":
            one = 0.7 * sum(np.sqrt(len(w)) * np.linalg.norm(w) for _, _, w in naive_units(model, (kind,)))
            assert one > 0
            assert attached(GroupLasso(0.7, (kind,)), model).penalty().item() == pytest.approx(one, rel=1e-5)
    names = {cut.tensor for group in groups_of(model, kinds) for cut in group.cuts}
    matrices = [p.detach().double() for n, p in model.named_parameters() if n in names and p.ndim > 1]
    l1, l2 = sum(w.abs().sum().item() for w in matrices), sum((w**2).sum().item() for w in matrices)
    assert attached(L1(0.3, kinds), model).penalty().item() == pytest.approx(0.3 * l1, rel=1e-5)
    assert attached(L2(0.3, kinds), model).penalty().item() == pytest.approx(0.3 * l2, rel=1e-5)


def test_group_lasso_has_its_gradient_and_none_at_zero():
    """d/dw = strength * sqrt(|g|) * w / ||w_g||; a unit of zeros stays where it is instead of becoming nan."""
    model = build("bert")
    parameters = dict(model.named_parameters())
    group = next(g for g in groups_of(model) if g.kind == "neuron")
    for cut in group.cuts:
        parameters[cut.tensor].data.index_fill_(cut.axis, torch.tensor([5]), 0.0)
    attached(GroupLasso(0.7, ("neuron",)), model).penalty().backward()
    slope, weight = parameters[group.cuts[0].tensor].grad, parameters[group.cuts[0].tensor].detach()
    units = {unit: w for g, unit, w in naive_units(model) if g == group}
    for unit in (0, 7):
        expected = 0.7 * np.sqrt(len(units[unit])) * weight[unit].numpy() / np.linalg.norm(units[unit])
        np.testing.assert_allclose(slope[unit], expected, rtol=1e-4)
    assert (slope[5] == 0).all()


def small_units(model):
    return sum(np.sqrt((w**2).mean()) < 0.02 for _, _, w in naive_units(model))


@pytest.mark.parametrize("penalty", [L1, L2, GroupLasso])
def test_a_larger_strength_never_gives_a_denser_model(tmp_path, penalty):
    norms, small, curves = [], [], []
    for strength in (0.0, 0.01, 0.1):
        model, history = run(
            tmp_path / str(strength), [penalty(strength, KINDS)], epochs=10, learning_rate=5e-3, weight_decay=0.0
        )
        norms.append(sum(np.linalg.norm(w) for _, _, w in naive_units(model)))
        small.append(small_units(model))
        curves.append(history.extras[penalty.name])
    assert norms[0] > norms[1] > norms[2]
    assert small == sorted(small)
    assert curves[2][-1]["small"] >= curves[0][-1]["small"]
    assert curves[2][0]["penalty"] > curves[2][-1]["penalty"]


def test_group_lasso_empties_whole_units(tmp_path):
    """As strong a penalty leaves neurons of zero with lasso over units, and with L2 none."""
    lasso, _ = run(tmp_path / "a", [GroupLasso(0.02, ("neuron",))], epochs=20, learning_rate=5e-3)
    ridge, _ = run(tmp_path / "b", [L2(0.02, ("neuron",))], epochs=20, learning_rate=5e-3)
    assert small_units(lasso) > small_units(ridge)


def test_other_weights_are_not_penalised():
    model = build("bert")
    attached(L1(1.0, ("neuron",)), model).penalty().backward()
    assert all(p.grad is None for n, p in model.named_parameters() if "attention" in n or "embeddings" in n)


def test_refuses_kinds_that_the_model_has_not():
    with pytest.raises(UserError, match="expert given, this model has attention, ffn, head, layer, neuron, width;"):
        attached(L1(1.0, ("head", "expert")), build("bert"))
