"""Sums, norms and masks over units, for what happens in training; a unit is a slice of each of its group's tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tasks.core.errors import UserError
from tasks.families.anatomy import Cut, Group


@dataclass(frozen=True)
class Part:
    """What the units of a group hold of one tensor."""

    parameter: nn.Parameter
    axis: int
    positions: Tensor
    """Entries of each unit along `axis`, int64, shape (units, entries)."""

    @property
    def size(self) -> int:
        """Weights of one unit."""
        return self.parameter.numel() // self.parameter.shape[self.axis] * self.positions.shape[1]

    def sums(self, values: Tensor) -> Tensor:
        """Sums `values`, of the parameter's shape, over the entries of each unit; shape (units,)."""
        along: Tensor = values.movedim(self.axis, 0).reshape(values.shape[self.axis], -1).sum(1)
        return along[self.positions].sum(1)

    def norms(self) -> Tensor:
        """L2 norm of each unit's weights in this tensor, with gradient 0 where it is 0; shape (units,)."""
        rows: Tensor = self.parameter.movedim(self.axis, 0).reshape(self.parameter.shape[self.axis], -1)
        norms: Tensor = torch.linalg.vector_norm(torch.linalg.vector_norm(rows, dim=1)[self.positions], dim=1)
        return norms


def positions(cut: Cut, count: int) -> Tensor:
    """Entries of every unit along the cut's axis, int64, shape (count, entries)."""
    return torch.stack([cut.index([unit]) for unit in range(count)])


def parts(group: Group, parameters: Mapping[str, nn.Parameter]) -> list[Part]:
    """Every tensor that the units of `group` have a part in."""
    found = []
    for cut in group.cuts:
        parameter = parameters[cut.tensor]
        found.append(Part(parameter, cut.axis, positions(cut, group.count).to(parameter.device)))
    return found


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


def matrices(
    groups: Sequence[Group], kinds: Sequence[str], parameters: Mapping[str, nn.Parameter]
) -> dict[str, nn.Parameter]:
    """The tensors of two or more axes that units of the given kinds have a part in, by name, each once."""
    names = dict.fromkeys(cut.tensor for group in of_kinds(groups, kinds) for cut in group.cuts)
    return {name: parameters[name] for name in names if parameters[name].ndim > 1}


def label(group: Group) -> str:
    """A group's name in scores and curves: "kind.layer"."""
    return f"{group.kind}.{group.layer}"
