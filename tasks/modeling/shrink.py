"""Removal of units: physically (`shrink`) or by zeros (`mask`); the two give the same logits."""

import copy
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tasks.families import family_of
from tasks.families.anatomy import ATTENTION, LAYER, WHOLE, WIDTH, Cut, Family, Group, Kept
from tasks.modeling.checkpoint import pruned_class


def shrink(model: PreTrainedModel, kept: Kept) -> PreTrainedModel:
    """A new model without the units that are not in `kept`; `model` is left as it is.

    The config gains `pruned`: `kept` in the numbering of the model as it was first built (so after several rounds too),
    the layers that are left, the true shape of every narrowed parameter and the attributes that follow.

    Args:
        kept: of each kind, for each group, the units that stay; a kind that is not named stays whole.

    Raises:
        ValueError: a group would lose its last unit but not the sublayer it lies in, its parts would become uneven, or
            an index does not exist.
    """
    made = _Shrunk(model)
    outer: dict[tuple[str, int], list[int]] = {}
    for group, units in chosen(made.family, model, kept):
        outer[group.kind, group.layer] = units
        made.record(group, units)
        if group.kind in WHOLE:
            made.leave_out(group, units)
        elif group.balance > 1:
            parts = outer[str(made.family.kind(group.kind).parts_of), group.layer]
            made.narrow(*_inside(group, units, parts))
        else:
            made.narrow(group, units)
    return made.model()


def chosen(family: Family, model: PreTrainedModel, kept: Kept) -> list[tuple[Group, list[int]]]:
    """Every group of the model with the units that stay of it, checked (see `shrink`)."""
    counters: dict[str, int] = defaultdict(int)
    wanted = []
    for group in family.groups(model):
        units = kept[group.kind][counters[group.kind]] if group.kind in kept else range(group.count)
        counters[group.kind] += 1
        wanted.append((group, units))
    gone = {(group.kind, group.layer) for group, units in wanted if group.kind in WHOLE and not units}
    sublayers = {kind.name: kind.sublayer for kind in family.kinds}
    found = []
    parts: list[int] = []
    for group, units in wanted:
        with_whole = (sublayers.get(group.kind), group.layer) in gone
        parts = _checked(group, units, parts if group.balance > 1 else [0], empty=group.kind in WHOLE or with_whole)
        found.append((group, parts))
    if all(not units for group, units in found if group.kind == LAYER):
        raise ValueError("the model would lose its last layer")
    return found


def dense_counts(model: PreTrainedModel) -> dict[str, list[int]]:
    """Units per kind, layer by layer, of the model as it was first built."""
    pruned = getattr(model.config, "pruned", None)
    if pruned:
        return dict(pruned["dense"])
    counts: dict[str, list[int]] = defaultdict(list)
    for group in family_of(model.config.model_type).groups(model):
        counts[group.kind].append(group.count)
    return dict(counts)


def dense_layers(model: PreTrainedModel) -> list[int]:
    """The number that each layer of `model` had in the dense model."""
    pruned = getattr(model.config, "pruned", None)
    if pruned:
        return list(pruned["layers"])
    return list(range(len(model.get_submodule(family_of(model.config.model_type).layers))))


def mask(model: PreTrainedModel, kept: Kept) -> PreTrainedModel:
    """A copy of `model` of the same shapes in which every weight of the units not in `kept` is zero."""
    masked = copy.deepcopy(model)
    parameters = dict(masked.named_parameters())
    with torch.no_grad():
        for group, units in chosen(family_of(model.config.model_type), masked, kept):
            removed = sorted(set(range(group.count)) - set(units))
            for cut in group.cuts:
                zero(parameters[cut.tensor], cut, removed)
    return masked


def zero(tensor: Tensor, cut: Cut, units: Sequence[int]) -> None:
    """Sets the entries of `units` in `tensor` to zero, in place."""
    tensor.index_fill_(cut.axis, cut.index(units).to(tensor.device), 0.0)


def _inside(group: Group, units: Sequence[int], parts: Sequence[int]) -> tuple[Group, list[int]]:
    """A balanced group, and its units, numbered as they are once only `parts` are left."""
    size = group.count // group.balance
    place = {part: number for number, part in enumerate(parts)}
    return replace(group, count=size * len(parts)), [place[unit // size] * size + unit % size for unit in units]


def _checked(group: Group, units: Sequence[int], parts: Sequence[int], *, empty: bool) -> list[int]:
    """The units in order; of a balanced group those in `parts`, since what goes with its part goes."""
    wanted = sorted(set(units))
    if wanted and (wanted[0] < 0 or wanted[-1] >= group.count):
        raise ValueError(
            f"layer {group.layer} has {group.kind}s 0 to {group.count - 1}, not {wanted[0]} to {wanted[-1]}"
        )
    size = group.count // group.balance
    numbers = {part: [unit for unit in wanted if unit // size == part] for part in parts}
    left = [unit for units in numbers.values() for unit in units]
    if not left and not empty:
        raise ValueError(f"layer {group.layer} would lose its last {group.kind}")
    if len({len(units) for units in numbers.values()}) > 1:
        raise ValueError(f"layer {group.layer} would keep more {group.kind}s in one of its {len(parts)} groups")
    return left


class _Shrunk:
    """A model on its way to fewer units: its weights, and what its config will say."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.source = model
        self.family = family_of(model.config.model_type)
        self.state: dict[str, Tensor] = dict(model.state_dict())
        before = copy.deepcopy(getattr(model.config, "pruned", None)) or {}
        self.shapes: dict[str, list[int]] = before.get("shapes", {})
        self.attributes: dict[str, dict[str, Any]] = defaultdict(dict, before.get("attributes", {}))
        self.absent: dict[str, int | None] = before.get("absent", {})
        self.kept: dict[str, dict[str, list[int]]] = before.get("kept", {})
        self.layers: list[int] = before.get("layers", list(range(len(model.get_submodule(self.family.layers)))))
        self.gone: list[int] = []

    def record(self, group: Group, units: Sequence[int]) -> None:
        """Notes what stays, in the numbers of the model as it was first built."""
        layers = self.kept.setdefault(group.kind, {})
        layer = "0" if group.kind == WIDTH else str(self.layers[group.layer])
        names = layers.get(layer, range(group.count))
        layers[layer] = [names[i] for i in units]
        for kind in self.family.kinds if group.kind in WHOLE and not units else ():
            if group.kind in (kind.sublayer, LAYER):
                self.kept[kind.name][layer] = []

    def narrow(self, group: Group, units: Sequence[int]) -> None:
        """Cuts every tensor down to some of the group's units."""
        if len(units) == group.count:
            return
        for cut in group.cuts:
            tensor = self.state[cut.tensor]
            self.state[cut.tensor] = tensor.index_select(cut.axis, cut.index(units).to(tensor.device))
            self.shapes[cut.tensor] = list(self.state[cut.tensor].shape)
        for path, attribute in group.attributes:
            now = self.attributes[path].get(attribute, getattr(self.source.get_submodule(path), attribute))
            self.attributes[path][attribute] = now * len(units) // group.count
        if group.kind == WIDTH:
            self._renormalise(group, len(units))

    def leave_out(self, group: Group, units: Sequence[int]) -> None:
        """Takes out a sublayer or a layer that does not stay."""
        if units:
            return
        if group.kind == LAYER:
            self.gone.append(group.layer)
        for number, path in enumerate(group.modules):
            attention = group.kind == ATTENTION and number == 0
            place = getattr(self.source.get_submodule(path), "layer_idx", group.layer)
            self.absent[path] = place if attention else None
            inside = f"{path}."
            self.state = {name: value for name, value in self.state.items() if not name.startswith(inside)}
            self.shapes = {name: value for name, value in self.shapes.items() if not name.startswith(inside)}
            for name in [name for name in self.attributes if f"{name}.".startswith(inside)]:
                del self.attributes[name]

    def model(self) -> PreTrainedModel:
        """The new model, built to its sizes and filled."""
        config = copy.deepcopy(self.source.config)
        self._renumber(config)
        config.pruned = {
            "shapes": self.shapes,
            "attributes": dict(self.attributes),
            "absent": self.absent,
            "kept": self.kept,
            "layers": self.layers,
            "dense": dense_counts(self.source),
        }
        base = next(c for c in type(self.source).__mro__ if c.__module__.startswith("transformers.models."))
        smaller = pruned_class(base)(config)
        tied = set(smaller.state_dict()) - {name for name, _ in smaller.named_parameters()}
        state = {name: tensor.contiguous() for name, tensor in self.state.items() if name not in tied}
        missing, unexpected = smaller.load_state_dict(state, strict=False)
        if set(missing) - tied or unexpected:
            raise RuntimeError(f"the shrunk model does not fit its weights: {missing}, {unexpected}")
        return smaller.to(self.source.device).train(self.source.training)

    def _renormalise(self, group: Group, width: int) -> None:
        """Norms over fewer entries give what they gave with the others zero: w sqrt(n / n'), eps n / n'.

        Exact for RMSNorm; for LayerNorm as far as the mean over the entries that stay is that over all.
        """
        share = group.count / width
        one = 1.0 if self.family.norms == "rms1" else 0.0
        for cut in group.cuts:
            path, _, attribute = cut.tensor.rpartition(".")
            module = self.source.get_submodule(path)
            eps = next((name for name in ("eps", "variance_epsilon") if hasattr(module, name)), None)
            if attribute == "weight" and eps:
                self.state[cut.tensor] = (self.state[cut.tensor] + one) * share**0.5 - one
                self.attributes[path][eps] = getattr(module, eps) * share

    def _renumber(self, config: Any) -> None:
        """Without the layers that are gone: the depth, whatever the config lists layer by layer, and every name."""
        if not self.gone:
            return
        depth = getattr(config, self.family.depth)
        stay = [layer for layer in range(depth) if layer not in self.gone]
        for name, value in list(vars(config).items()):
            if isinstance(value, list | tuple) and len(value) == depth:
                setattr(config, name, [value[layer] for layer in stay])
        setattr(config, self.family.depth, len(stay))
        self.layers = [self.layers[layer] for layer in stay]
        number = {str(old): str(new) for new, old in enumerate(stay)}
        pattern = re.compile(rf"({re.escape(self.family.layers)}\.)(\d+)(\..*)")
        self.state, self.shapes, self.attributes, self.absent = (
            _renamed(entries, pattern, number) for entries in (self.state, self.shapes, self.attributes, self.absent)
        )
        for path, place in self.absent.items():
            match = pattern.fullmatch(path)
            self.absent[path] = int(match[2]) if match and place is not None else None


def _renamed(entries: Mapping[str, Any], pattern: re.Pattern[str], number: Mapping[str, str]) -> dict[str, Any]:
    """Entries by the names that they have once only the layers in `number` are left."""
    out = {}
    for name, value in entries.items():
        match = pattern.fullmatch(name)
        if match is None:
            out[name] = value
        elif match[2] in number:
            out[match[1] + number[match[2]] + match[3]] = value
    return out
