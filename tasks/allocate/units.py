"""The units of one group, and in which numbers and which order they may stay."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tasks.families.anatomy import WHOLE, Group

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
K = TypeVar("K")
"""Names a group: a layer and a kind of unit."""


@dataclass(frozen=True, eq=False)
class Units:
    """Units of one kind in one layer.

    They go in blocks of the smallest number that both `align` and `parts` divide, the least important block first.
    Where that does not divide their number, the block that goes first is the shorter one.
    """

    scores: Floats
    """Importance per unit, shape (units,); infinite for a unit that should outlive all others."""
    cost: float = 1.0
    """Parameters or operations one unit costs."""
    align: int = 1
    """A number of units that stay is a multiple of this, or all there are."""
    parts: int = 1
    """The units lie in so many consecutive parts of equal length, and the same number must stay in each (query heads
    in KV groups)."""
    empty: bool = False
    """Whether the last unit may go."""
    dense: int | None = None
    """Units the group had in the dense model, which ratios count; None: those it has."""

    def __post_init__(self) -> None:
        if self.scores.ndim != 1 or np.isnan(self.scores).any():
            raise ValueError(f"scores are a vector of numbers, not of shape {self.scores.shape} or with NaN")
        if self.align < 1 or self.parts < 1 or len(self.scores) % self.parts:
            raise ValueError(f"{len(self.scores)} units in {self.parts} equal parts, in multiples of {self.align}")
        if not 0 < self.cost < math.inf:
            raise ValueError(f"a unit costs more than nothing, not {self.cost}")
        if self.dense is not None and self.dense < len(self.scores):
            raise ValueError(f"{len(self.scores)} units are left of {self.dense}")

    @property
    def block(self) -> int:
        """Units that stay or go together."""
        return math.lcm(self.align, self.parts)

    @property
    def full(self) -> int:
        """Units of the dense model."""
        return len(self.scores) if self.dense is None else self.dense

    def levels(self, at_most: int | None = None) -> Integers:
        """Every number of units the group may keep, ascending; `at_most` so many (2 or more), denser where few stay."""
        count = len(self.scores)
        first = 0 if self.empty or not count else self.block
        every = np.array([*range(first, count, self.block), count], dtype=np.int64)
        if at_most is None or len(every) <= at_most:
            return every
        if at_most < 2:
            raise ValueError(f"the smallest and the largest level make 2, not {at_most}")
        return every[np.unique(((len(every) - 1) * np.linspace(0, 1, at_most) ** 2).round().astype(np.int64))]

    def order(self) -> Integers:
        """All units, the most important first; with `parts`, the best of every part, then every second best."""
        by_part = self.scores.reshape(self.parts, -1)
        ranks = np.argsort(-by_part, axis=1, kind="stable")
        return (ranks + np.arange(self.parts)[:, None] * by_part.shape[1]).T.flatten()

    def best(self, count: int) -> list[int]:
        """The units that stay when `count` do, in their own order."""
        if count not in self.levels():
            raise ValueError(f"{count} is no level of {len(self.scores)} units in blocks of {self.block}")
        return sorted(self.order()[:count].tolist())


def units_of(group: Group, scores: Mapping[str, Tensor], align: int, dense: int | None = None) -> Units:
    """The units of a group of a model, by its scores; `align` is for kinds that come in multiples of a number."""
    return Units(
        scores[group.name].double().numpy(),
        align=align if group.aligned else 1,
        parts=group.balance,
        empty=group.kind in WHOLE,
        dense=dense,
    )


def normalized(groups: Mapping[K, Units]) -> dict[K, Units]:
    """Divides the scores of each group by their L2 norm, so that layers compare (Molchanov et al., 2017)."""
    return {key: replace(units, scores=units.scores / norm(units.scores)) for key, units in groups.items()}


def norm(scores: Floats) -> float:
    """The L2 norm that `normalized` divides by: never 0."""
    return max(float(np.linalg.norm(scores)), float(np.finfo(np.float64).tiny))


def cost_at(groups: Mapping[K, Units], ratio: float) -> float:
    """What is left of the dense groups' cost when the share `ratio` of it goes."""
    return (1 - ratio) * sum(units.full * units.cost for units in groups.values())
