"""Removal of units: physically (`shrink`) or by zeros (`mask`); the two give the same logits."""

import copy
from collections import defaultdict
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from tasks.families import family_of
from tasks.families.anatomy import Cut, Group, Kept
from tasks.modeling.checkpoint import pruned_class


def shrink(model: PreTrainedModel, kept: Kept) -> PreTrainedModel:
    """A new model without the units that are not in `kept`; `model` is left as it is.

    The config gains `pruned`: `kept` in the numbering of the model as it was first built (so after several rounds too),
    the true shape of every narrowed parameter and the attributes that follow.

    Raises:
        ValueError: a group would lose its last unit, or an index does not exist.
    """
    groups = family_of(model.config.model_type).groups(model)
    state = dict(model.state_dict())
    pruned = copy.deepcopy(getattr(model.config, "pruned", None)) or {"shapes": {}, "attributes": {}, "kept": {}}
    pruned["dense"] = dense_counts(model)
    attributes: dict[str, dict[str, int]] = defaultdict(dict, pruned["attributes"])
    for group in groups:
        units = _checked(group, kept[group.kind][group.layer])
        for cut in group.cuts:
            state[cut.tensor] = state[cut.tensor].index_select(cut.axis, cut.index(units))
            pruned["shapes"][cut.tensor] = list(state[cut.tensor].shape)
        for module, attribute, size in group.attributes:
            attributes[module][attribute] = len(units) * size
        names = pruned["kept"].setdefault(group.kind, {}).get(str(group.layer), range(group.count))
        pruned["kept"][group.kind][str(group.layer)] = [names[i] for i in units]
    config = copy.deepcopy(model.config)
    config.pruned = {**pruned, "attributes": dict(attributes)}
    base = next(c for c in type(model).__mro__ if c.__module__.startswith("transformers.models."))
    smaller = pruned_class(base)(config)
    smaller.load_state_dict({name: tensor.contiguous() for name, tensor in state.items()}, strict=True)
    return smaller.train(model.training)


def dense_counts(model: PreTrainedModel) -> dict[str, list[int]]:
    """Units per kind, layer by layer, of the model as it was first built."""
    pruned = getattr(model.config, "pruned", None)
    if pruned:
        return dict(pruned["dense"])
    counts: dict[str, list[int]] = defaultdict(list)
    for group in family_of(model.config.model_type).groups(model):
        counts[group.kind].append(group.count)
    return dict(counts)


def mask(model: PreTrainedModel, kept: Kept) -> PreTrainedModel:
    """A copy of `model` of the same shapes in which every weight of the units not in `kept` is zero."""
    masked = copy.deepcopy(model)
    parameters = dict(masked.named_parameters())
    with torch.no_grad():
        for group in family_of(model.config.model_type).groups(masked):
            removed = sorted(set(range(group.count)) - set(_checked(group, kept[group.kind][group.layer])))
            for cut in group.cuts:
                zero(parameters[cut.tensor], cut, removed)
    return masked


def zero(tensor: torch.Tensor, cut: Cut, units: Sequence[int]) -> None:
    """Sets the entries of `units` in `tensor` to zero, in place."""
    tensor.index_fill_(cut.axis, cut.index(units), 0.0)


def _checked(group: Group, units: Sequence[int]) -> list[int]:
    wanted = sorted(set(units))
    if not wanted:
        raise ValueError(f"layer {group.layer} would lose its last {group.kind}")
    if wanted[0] < 0 or wanted[-1] >= group.count:
        raise ValueError(
            f"layer {group.layer} has {group.kind}s 0 to {group.count - 1}, not {wanted[0]} to {wanted[-1]}"
        )
    return wanted
