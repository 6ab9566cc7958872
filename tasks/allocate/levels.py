"""Candidate levels of a group, with what each loses and costs; and what an allocation is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

import numpy as np

from tasks.allocate.units import Floats, Integers, K, Units
from tasks.core.errors import UserError

Cost = Callable[[Integers], Floats]
"""What a group costs at each of some levels (numbers of units kept)."""
CURVES = "sensitivity.json"
"""Beside scores: of every group the loss by number of units kept, measured, for allocations that go by it."""
ROUNDING = 1e-12
"""Share of a budget by which sums of floating-point costs may seem to exceed it."""


@dataclass(frozen=True, eq=False)
class Levels:
    """How many units a group may keep, ascending, and what that means; three vectors of shape (levels,)."""

    kept: Integers
    loss: Floats
    """Measured with this group pruned alone, or estimated; only differences within a group count."""
    cost: Floats
    """Parameters, operations or seconds of the group."""

    def __post_init__(self) -> None:
        shapes = {vector.shape for vector in (self.kept, self.loss, self.cost)}
        if len(shapes) != 1 or self.kept.ndim != 1 or not len(self.kept) or not (np.diff(self.kept) > 0).all():
            raise ValueError(f"levels ascend, each with a loss and a cost, not {self.kept.tolist()} of shapes {shapes}")
        if not (np.isfinite(self.loss).all() and np.isfinite(self.cost).all()):
            raise ValueError("losses and costs of levels are finite; leave out a level that must not be taken")


@dataclass(frozen=True)
class Allocation(Generic[K]):
    """How many units each group keeps."""

    kept: dict[K, int]
    cost: float
    """Of all groups together."""
    threshold: float | None = None
    """Where one value decided for all groups: the lowest score of a block that stays of its own merit, or the largest
    loss a group may add."""
    loss: float | None = None
    """Sum over the groups, where the method minimises it."""


def estimate(units: Units, cost: Cost, at_most: int | None = None) -> Levels:
    """Levels whose loss is the sum of the scores of the units that go (first order: removals add up).

    Levels that remove a unit of infinite score are left out.

    Args:
        units: the group.
        cost: its cost model.
        at_most: number of levels, denser where few stay; None: all there are.
    """
    kept = units.levels(at_most)
    ordered = units.scores[units.order()]
    loss = np.concatenate([np.cumsum(ordered[::-1])[::-1], [0.0]])[kept]
    finite = np.isfinite(loss)
    return Levels(kept[finite], loss[finite], cost(kept[finite]))


def infeasible(budget: float, smallest: float) -> UserError:
    """The error for a budget below the `smallest` cost that any allocation has."""
    return UserError(
        f"The budget of {budget:.6g} is out of reach: with every group at its smallest level the cost is still"
        f" {smallest:.6g}. Set a budget of at least that, prune more kinds of unit, or allow smaller levels"
        " (a smaller alignment, groups that may become empty)."
    )
