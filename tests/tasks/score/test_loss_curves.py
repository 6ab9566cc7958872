"""Curves of sensitivity against the whole model, run from its first layer with the group's units taken out."""

import copy

import numpy as np
import pytest
import torch
from tiny import TASK

from tasks.allocate.units import Units
from tasks.families import family_of
from tasks.modeling.inference import forward, logits
from tasks.modeling.shrink import shrink
from tasks.score.sensitivity import Sensitivity


def test_a_level_costs_what_the_model_without_its_units_is_off(model, split):
    groups = {g.name: g for g in family_of(model.config.model_type).groups(model) if g.kind in {"neuron", "ffn"}}
    units = {
        name: Units(np.random.default_rng(g.layer).random(g.count), empty=g.kind == "ffn") for name, g in groups.items()
    }
    before = torch.log_softmax(torch.from_numpy(logits(forward(model), split, 8)).double(), -1)
    found = Sensitivity(model, split, 8, TASK, None)(units)
    assert found.keys() == units.keys()
    for name, losses in found.items():
        level = min(losses)
        every = {kind: [list(range(g.count)) for g in groups.values() if g.kind == kind] for kind in ("neuron", "ffn")}
        every[groups[name].kind][groups[name].layer] = units[name].best(level)
        smaller = shrink(copy.deepcopy(model), every)
        after = torch.log_softmax(torch.from_numpy(logits(forward(smaller), split, 8)).double(), -1)
        assert losses[level] == pytest.approx(float((before.exp() * (before - after)).sum(-1).mean()), abs=1e-5)
        assert losses[max(losses)] == 0
