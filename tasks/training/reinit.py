"""Instead of removing weights: start them again, or take the kept ones back to where they were early in training.

A mapping from tensor to a boolean mask of its shape says which entries were kept; tensors that it does not name are
kept whole. Models go in unchanged; a copy comes out.
"""

import copy
import zlib
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tasks.core.errors import UserError
from tasks.families.anatomy import Group, Kept


def kept_entries(groups: Sequence[Group], tensors: Mapping[str, Tensor], kept: Kept) -> dict[str, Tensor]:
    """Masks for units: an entry is kept if no unit that has a part in it is unselected.

    Args:
        groups: of the model.
        tensors: its parameters by name.
        kept: units kept by kind and layer; kinds that it does not name are kept whole.
    """
    masks: dict[str, Tensor] = {}
    layers: dict[str, int] = {}
    for group in groups:
        number = layers[group.kind] = layers.get(group.kind, -1) + 1
        if group.kind not in kept:
            continue
        gone = sorted(set(range(group.count)) - set(kept[group.kind][number]))
        for cut in group.cuts:
            mask = masks.setdefault(cut.tensor, torch.ones(tensors[cut.tensor].shape, dtype=torch.bool))
            if gone:
                mask.index_fill_(cut.axis, cut.index(gone), False)
    return masks


def reinitialize(
    model: PreTrainedModel,
    kept: Mapping[str, Tensor],
    how: Literal["random", "adaptive"],
    seed: int,
    factor: float = 1.0,
) -> PreTrainedModel:
    """A copy of `model` whose unselected entries are drawn anew.

    `random` starts as the architecture does: matrices from N(0, initializer_range^2), vectors at 0. `adaptive` draws
    from N(0, s^2) with s the standard deviation of what the same tensor kept; a tensor that kept fewer than two
    entries starts at random.

    Args:
        model: left as it is.
        kept: masks by tensor.
        how: `random` or `adaptive`.
        seed: each tensor has numbers of its own, whatever other tensors there are.
        factor: of the standard deviation.
    """
    again = copy.deepcopy(model)
    with torch.no_grad():
        for name, weight, mask in _masked(again, kept):
            deviation = float(model.config.initializer_range) if weight.ndim > 1 else 0.0
            if how == "adaptive" and int(mask.sum()) > 1:
                deviation = float(weight[mask].double().std())
            rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
            drawn = torch.from_numpy(rng.standard_normal(weight.shape, np.float32)).mul_(deviation * factor)
            weight.copy_(torch.where(mask, weight, drawn.to(weight)))
    return again


def rewind(model: PreTrainedModel, early: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> PreTrainedModel:
    """A copy of `model` with all that was kept as it was `early` (Frankle et al., 2020); the rest is as in `model`.

    Args:
        model: left as it is.
        early: every parameter, by name, from a checkpoint of the same shapes.
        kept: masks by tensor.

    Raises:
        UserError: `early` lacks a parameter or has it in another shape.
    """
    again = copy.deepcopy(model)
    for name, weight in again.named_parameters():
        found = list(early[name].shape) if name in early else "missing"
        if found != list(weight.shape):
            raise UserError(
                f"rewind: {name} has shape {list(weight.shape)}, in the early checkpoint {found}; take one of the same "
                "model from before its units were removed"
            )
    with torch.no_grad():
        masks = {weight: mask for _, weight, mask in _masked(again, kept)}
        for name, weight in again.named_parameters():
            old = early[name].to(weight)
            weight.copy_(torch.where(masks[weight], old, weight) if weight in masks else old)
    return again


def _masked(model: PreTrainedModel, kept: Mapping[str, Tensor]) -> list[tuple[str, Tensor, Tensor]]:
    """(name, weight, mask) of every named tensor.

    Raises:
        UserError: a mask does not fit the model.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, mask in kept.items():
        if name not in parameters or parameters[name].shape != mask.shape:
            held = list(parameters[name].shape) if name in parameters else "no such tensor"
            raise UserError(f"mask of {name} has shape {list(mask.shape)}, the model {held}; masks must fit the model")
    return [(n, parameters[n], mask.to(parameters[n].device, torch.bool)) for n, mask in kept.items()]
