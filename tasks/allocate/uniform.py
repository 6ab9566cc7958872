"""The same share of every group stays."""

from collections.abc import Mapping

import numpy as np

from tasks.allocate.levels import ROUNDING, Allocation, Cost, infeasible
from tasks.allocate.units import Floats, Integers, K, Units

TIE = 1e-9
"""Units by which two levels may seem unequally near in floating point."""


def by_ratio(groups: Mapping[K, Units], ratio: float) -> Allocation[K]:
    """Removes the share `ratio` of the dense units of every group.

    The number that stays is the nearest level of the group; of two equally near ones the larger.
    """
    kept = {key: int(_nearest(units.levels(), units.full * (1 - ratio))) for key, units in groups.items()}
    return Allocation(kept, sum(kept[key] * units.cost for key, units in groups.items()))


def by_budget(groups: Mapping[K, Units], costs: Mapping[K, Cost], budget: float) -> Allocation[K]:
    """Keeps the largest share, the same in every group, whose cost is within `budget`.

    Args:
        groups: rounded to levels as in `by_ratio`.
        costs: cost model of every group, never falling with the number of units.
        budget: of all groups together.

    Raises:
        UserError: the smallest levels of all groups cost more.
    """
    levels = {key: units.levels() for key, units in groups.items()}
    level_costs = {key: costs[key](levels[key]) for key in groups}
    # the share at which a group takes its next level: half way between the two
    steps = {key: (levels[key][:-1] + levels[key][1:]) / 2 / max(groups[key].full, 1) for key in groups}
    shares = np.unique(np.concatenate([[0.0], *steps.values()]))
    total: Floats = np.zeros(len(shares))
    taken: dict[K, Integers] = {}
    for key in groups:
        taken[key] = np.searchsorted(steps[key], shares, side="right")
        total += level_costs[key][taken[key]]
    within = np.flatnonzero(total <= budget + ROUNDING * abs(budget))
    if not len(within):
        raise infeasible(budget, float(total[0]))
    best = within[-1]
    return Allocation({key: int(levels[key][taken[key][best]]) for key in groups}, float(total[best]))


def _nearest(levels: Integers, count: float) -> int:
    distance = np.abs(levels - count)
    return int(levels[distance <= distance.min() + TIE].max())
