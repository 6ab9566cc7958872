"""Global allocation: the units of all groups in one ranking, of several kinds if scores are divided by costs.

A block of units (see `Units`) scores what its units do on average. The best block of a group that must not become
empty stays before any ranking.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Generic

import numpy as np
import numpy.typing as npt

from tasks.allocate.levels import ROUNDING, Allocation, infeasible
from tasks.allocate.units import Floats, Integers, K, Units, cost_at


def by_budget(groups: Mapping[K, Units], budget: float) -> Allocation[K]:
    """Keeps blocks in the order of their score per cost up to the first that would exceed `budget`.

    A smaller budget keeps a part of what a larger one does.

    Raises:
        UserError: the blocks that must stay cost more.
    """
    ranking = _rank(groups)
    smallest = float(ranking.cost[ranking.forced].sum())
    limit = budget + ROUNDING * abs(budget)
    if smallest > limit:
        raise infeasible(budget, smallest)
    return ranking.first(np.cumsum(ranking.cost) <= limit)


def by_ratio(groups: Mapping[K, Units], ratio: float) -> Allocation[K]:
    """Removes the share `ratio` of the dense groups' cost, in the order of score per cost.

    What stays differs from that by at most half of the cost of a block, unless the blocks that must stay are more, or
    all the units there are less.
    """
    return _nearest(_rank(groups), cost_at(groups, ratio))


def by_count(groups: Mapping[K, Units], count: int) -> Allocation[K]:
    """Keeps `count` units in all groups together, to half a block, in the order of their score, whatever they cost."""
    return _priced(groups, _nearest(_rank(_free(groups)), count))


def by_threshold(groups: Mapping[K, Units], threshold: float) -> Allocation[K]:
    """Keeps the blocks that score `threshold` or more, whatever they cost."""
    ranking = _rank(_free(groups))
    return _priced(groups, replace(ranking.first(ranking.value >= threshold), threshold=threshold))


def margin(units: Units, kept: int) -> tuple[float | None, float | None]:
    """Of a group that keeps `kept` units, the lowest block that stays of its own merit and the highest that goes.

    Both as they compare with `Allocation.threshold`: mean score per cost. None where there is no such block.
    """
    _, value, size, _, forced = _blocks(0, units)
    stay = np.cumsum(size) <= kept
    lowest, highest = value[stay & ~forced], value[~stay]
    return float(lowest.min()) if len(lowest) else None, float(highest.max()) if len(highest) else None


@dataclass(frozen=True, eq=False)
class _Ranking(Generic[K]):
    """Blocks in the order in which they are taken; those that must stay come first."""

    keys: list[K]
    group: Integers
    value: Floats
    size: Integers
    cost: Floats
    forced: npt.NDArray[np.bool_]

    def first(self, fits: npt.NDArray[np.bool_]) -> Allocation[K]:
        """The blocks that must stay, and those after them up to the first that does not fit."""
        taken = np.logical_and.accumulate(fits | self.forced)
        counts = np.bincount(self.group[taken], weights=self.size[taken], minlength=len(self.keys))
        chosen = self.value[taken & ~self.forced]
        return Allocation(
            {key: int(count) for key, count in zip(self.keys, counts, strict=True)},
            float(self.cost[taken].sum()),
            threshold=float(chosen[-1]) if len(chosen) else None,
        )


def _rank(groups: Mapping[K, Units]) -> _Ranking[K]:
    columns = [_blocks(number, units) for number, units in enumerate(groups.values())]
    group, value, size, cost, forced = (np.concatenate(column) for column in zip(*columns, strict=True))
    order = np.lexsort((-value, ~forced))  # stable: equal blocks stay in the order of groups, and within a group
    return _Ranking(list(groups), group[order], value[order], size[order], cost[order], forced[order])


def _blocks(number: int, units: Units) -> tuple[Integers, Floats, Integers, Floats, npt.NDArray[np.bool_]]:
    ordered = units.scores[units.order()]
    starts = np.arange(0, len(ordered), units.block)
    size = np.diff(np.append(starts, len(ordered)))
    sums = np.add.reduceat(ordered, starts) if len(starts) else ordered
    # rounding of the means must not let a later block of equal units overtake
    value = np.minimum.accumulate(sums / size / units.cost)
    forced = (starts == 0) & (not units.empty)
    return np.full(len(starts), number), value, size, size * units.cost, forced


def _nearest(ranking: _Ranking[K], cost: float) -> Allocation[K]:
    return ranking.first(np.cumsum(ranking.cost) - ranking.cost / 2 <= cost + ROUNDING * abs(cost))


def _free(groups: Mapping[K, Units]) -> dict[K, Units]:
    return {key: replace(units, cost=1.0) for key, units in groups.items()}


def _priced(groups: Mapping[K, Units], found: Allocation[K]) -> Allocation[K]:
    return replace(found, cost=sum(count * groups[key].cost for key, count in found.kept.items()))
