"""The tensors of the units that something in training is about."""

from collections.abc import Mapping, Sequence

from torch import nn
from transformers import PreTrainedModel

from tasks.core.errors import UserError
from tasks.families import family_of
from tasks.families.anatomy import Cut, Group

Part = tuple[nn.Parameter, Cut]
"""A tensor that units have a part in, and where they lie in it."""


def parts(group: Group, parameters: Mapping[str, nn.Parameter]) -> list[Part]:
    """Every tensor that the units of `group` have a part in."""
    return [(parameters[cut.tensor], cut) for cut in group.cuts]


def size(group: Group, parameters: Mapping[str, nn.Parameter]) -> int:
    """Weights of one unit."""
    return sum(parameters[cut.tensor].numel() for cut in group.cuts) // group.count


def of_kinds(groups: Sequence[Group], kinds: Sequence[str]) -> list[Group]:
    """The groups of the given kinds.

    Raises:
        UserError: the model has no unit of a kind.
    """
    known = sorted({group.kind for group in groups})
    unknown = sorted(set(kinds) - set(known))
    if unknown or not kinds:
        given = ", ".join(unknown) or "nothing"
        raise UserError(f"kinds of unit: {given} given, this model has {', '.join(known)}; name some of these")
    return [group for group in groups if group.kind in kinds]


def own_kinds(model: PreTrainedModel) -> list[str]:
    """The kinds of unit that the layers of `model` consist of: key-value groups (elsewhere heads) and neurons."""
    family = family_of(model.config.model_type)
    there = {group.kind for group in family.groups(model)}
    return [kind.name for kind in family.kinds if kind.parts_of is None and kind.name in there]


def matrices(
    groups: Sequence[Group], kinds: Sequence[str], parameters: Mapping[str, nn.Parameter]
) -> dict[str, nn.Parameter]:
    """The tensors of two or more axes that units of the given kinds have a part in, by name, each once."""
    names = dict.fromkeys(cut.tensor for group in of_kinds(groups, kinds) for cut in group.cuts)
    return {name: parameters[name] for name in names if parameters[name].ndim > 1}
