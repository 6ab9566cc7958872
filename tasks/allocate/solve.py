"""Allocation by solving: the smallest sum of losses within a budget."""

from collections.abc import Mapping

import numpy as np

from tasks.allocate.levels import ROUNDING, Allocation, Levels, infeasible
from tasks.allocate.units import Floats, Integers, K
from tasks.core.errors import UserError


def solve(levels: Mapping[K, Levels], budget: float, resolution: int = 10_000) -> Allocation[K]:
    """Picks one level of every group: a multiple-choice knapsack, solved by dynamic programming.

    The search of ZipLM (Kurtic et al., 2023) over losses and costs per group. Costs above each group's cheapest level
    are rounded up to cells; the cells do not depend on the budget, so a smaller budget never costs more or loses
    less. No allocation whose rounded cost is within the budget loses less; where every cost is a whole number of cells
    the result is optimal. Time and memory grow with groups * resolution.

    Args:
        levels: of every group.
        budget: cost of all groups together; the true sum of the picked levels keeps it.
        resolution: cells between the cheapest and the dearest levels of all groups.

    Raises:
        UserError: the cheapest levels of all groups cost more, or there is no cell.
    """
    if resolution < 1:
        raise UserError(f"The resolution of the cost is 1 cell or more (10000 is usual), not {resolution}.")
    tables = list(levels.values())
    smallest = sum(float(table.cost.min()) for table in tables)
    limit = budget + ROUNDING * abs(budget)
    if smallest > limit:
        raise infeasible(budget, smallest)
    span = sum(float(np.ptp(table.cost)) for table in tables)
    cell = span / resolution or 1.0
    cells = [_cells(table.cost - table.cost.min(), cell) for table in tables]
    # rounding adds less than a cell per group: what is dearer than this exceeds the budget without rounding, too
    width = min(sum(int(c.max()) for c in cells), int(min(limit - smallest, span) / cell) + len(tables) + 1) + 1
    loss, cost = np.full(width, np.inf), np.full(width, np.inf)
    loss[0] = cost[0] = 0.0
    picks = []
    for table, sizes in zip(tables, cells, strict=True):
        loss, cost, pick = _add(loss, cost, table, sizes)
        picks.append(pick)
    end = int(np.argmin(np.where(cost <= limit, loss, np.inf)))
    kept, at = {}, end
    for key, table, sizes, pick in reversed(list(zip(levels, tables, cells, picks, strict=True))):
        level = int(pick[at])
        kept[key] = int(table.kept[level])
        at -= int(sizes[level])
    return Allocation({key: kept[key] for key in levels}, float(cost[end]), loss=float(loss[end]))


def _cells(cost: Floats, cell: float) -> Integers:
    """Costs in cells, rounded up, but not for what sums of floating-point numbers are off."""
    return np.ceil(cost / cell * (1 - ROUNDING)).astype(np.int64)


def _add(loss: Floats, cost: Floats, table: Levels, sizes: Integers) -> tuple[Floats, Floats, Integers]:
    """Adds a group to the least loss, and the true cost that goes with it, for each number of cells."""
    best, spent = np.full_like(loss, np.inf), np.full_like(cost, np.inf)
    pick = np.zeros(len(loss), dtype=np.int64)
    for level, size in enumerate(sizes):
        if size >= len(loss):
            continue
        candidate = loss[: len(loss) - size] + table.loss[level]
        better = candidate < best[size:]
        best[size:][better] = candidate[better]
        spent[size:][better] = cost[: len(cost) - size][better] + table.cost[level]
        pick[size:][better] = level
    return best, spent, pick
