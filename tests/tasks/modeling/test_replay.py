"""The record of what was removed in several rounds leads another model of the same architecture to the same units."""

import torch
from tiny import build, uneven

from tasks.families import family_of
from tasks.families.anatomy import LAYER
from tasks.modeling.matrices import matrices
from tasks.modeling.replay import replay
from tasks.modeling.shrink import shrink
from tasks.training.units import matrices as of_units
from tasks.training.units import own_kinds


def test_rounds_of_removal_are_done_again(model):
    once = shrink(model, uneven(model, whole=True))
    twice = shrink(once, uneven(once))
    last = shrink(twice, {LAYER: [[0], [0], []]})
    for pruned in (model, once, twice, last):
        found, expected = dict(replay(model, pruned).named_parameters()), dict(pruned.named_parameters())
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], values) for name, values in expected.items())
    other = build(model.config.model_type, seed=1)
    assert not any(torch.equal(values, expected[name]) for name, values in replay(other, last).named_parameters())


def test_own_kinds_reach_every_matrix(model):
    family = family_of(model.config.model_type)
    reached = of_units(family.groups(model), own_kinds(model), dict(model.named_parameters()))
    assert {matrix.tensor for matrix in matrices(model)} <= set(reached)
