"""Allocation by sensitivity curves: every group may add the same loss."""

from collections.abc import Mapping

import numpy as np

from tasks.allocate.levels import ROUNDING, Allocation, Levels, infeasible
from tasks.allocate.units import K


def equal_loss(curves: Mapping[K, Levels], budget: float) -> Allocation[K]:
    """Prunes every group as far as one threshold on its own loss allows; the smallest threshold that meets `budget`.

    The thresholds of Han et al. (2015) per layer, made one by bisection over the losses that were measured. A group's
    increase counts from its largest level; noise is bridged (an increase is no smaller than at any larger level).

    Args:
        curves: loss of each group pruned alone; measured on the same data.
        budget: cost of all groups together.

    Returns:
        `threshold` is the loss that each group may add.

    Raises:
        UserError: the cheapest levels of all groups cost more.
    """
    increases = {key: np.maximum.accumulate((c.loss - c.loss[-1])[::-1])[::-1] for key, c in curves.items()}
    thresholds = np.unique(np.concatenate(list(increases.values())))

    def allocate(threshold: float) -> Allocation[K]:
        kept, cost = {}, 0.0
        for key, curve in curves.items():
            allowed = np.flatnonzero(increases[key] <= threshold)
            cheapest = allowed[curve.cost[allowed] == curve.cost[allowed].min()][-1]
            kept[key] = int(curve.kept[cheapest])
            cost += float(curve.cost[cheapest])
        return Allocation(kept, cost, threshold=threshold)

    limit = budget + ROUNDING * abs(budget)
    low, high = 0, len(thresholds) - 1
    found = allocate(float(thresholds[high]))
    if found.cost > limit:
        raise infeasible(budget, found.cost)
    while low < high:
        middle = (low + high) // 2
        tried = allocate(float(thresholds[middle]))
        if tried.cost <= limit:
            high, found = middle, tried
        else:
            low = middle + 1
    return found
