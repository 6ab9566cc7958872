"""A short training of a small model with extras."""

import numpy as np
import torch
from tiny import TASK, build, rows

from tasks.families import family_of
from tasks.recipe.load import resolve
from tasks.training.loop import fit
from tasks.training.loss import supervised

KINDS = ("head", "neuron")
GROUPED = ("kv_group", "neuron")
"""The same of models with grouped-query attention."""
SETTINGS = resolve(None, []).train.model_copy(
    update={"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "precision": "fp32", "checkpoint_steps": 3}
)


def run(scratch, extras=(), family="bert", model=None, **changes):
    model = model or build(family)
    settings = SETTINGS.model_copy(update=changes)
    scratch.mkdir(exist_ok=True)
    split = rows(44)
    objective = supervised(TASK, split)
    history = fit(model, split, rows(20, seed=1), settings, objective, TASK, "accuracy", 0, scratch, extras)
    return model, history


def kinds_of(family):
    return GROUPED if family == "llama" else KINDS


def groups_of(model, kinds=KINDS):
    return [group for group in family_of(model.config.model_type).groups(model) if group.kind in kinds]


def sliced(values, cut, unit):
    """The entries of one unit, cut out of an array of the tensor's shape part by part."""
    stretch = values.shape[cut.axis] // cut.parts
    return [
        np.take(values, range(start + unit * cut.block, start + (unit + 1) * cut.block), axis=cut.axis)
        for start in range(0, values.shape[cut.axis], stretch)
    ]


def weights(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def prune_randomly(model, share, kinds=KINDS, seed=0):
    """Sets exactly `share` of each matrix of the units to zero; returns {tensor: mask of what lives}."""
    parameters = dict(model.named_parameters())
    generator = torch.Generator().manual_seed(seed)
    masks = {}
    for group in groups_of(model, kinds):
        for cut in group.cuts:
            weight = parameters[cut.tensor]
            if weight.ndim > 1 and cut.tensor not in masks:
                order = torch.randperm(weight.numel(), generator=generator)
                mask = torch.ones(weight.numel(), dtype=torch.bool)
                mask[order[: round(share * weight.numel())]] = False
                masks[cut.tensor] = mask.view_as(weight)
                weight.data.mul_(masks[cut.tensor])
    return masks
