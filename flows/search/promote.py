"""Which trials go on to the next level: asynchronous successive halving over several objectives."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Losses = NDArray[np.float64]
"""(trials, objectives); small is good."""


def goes_on(own: Sequence[float], others: Sequence[Sequence[float]], excess: Sequence[float], reduction: float) -> bool:
    """Whether a trial is among the best of so many that came to its level so far (ASHA; Li et al., 2020).

    Those that are expected to keep the budget's quality come before the others, as in constrained domination (Deb et
    al., 2002). They are ranked by the fronts that are left when better ones are taken away; within a front the balanced
    come first, not its ends, which are the dense model and ruins. The others are ranked by what they lose too much.

    Args:
        own: the trial's losses.
        others: those of the trials that came to the level before.
        excess: what each is expected to lose more than the budget allows, the trial last; 0 or less: it keeps it.
        reduction: one of so many goes on, rounded up.
    """
    losses = np.array([*others, own], dtype=np.float64)
    place = ranking(losses, excess).index(len(losses) - 1)
    return place < len(losses) / reduction


def ranking(losses: Losses, excess: Sequence[float]) -> list[int]:
    """Trials from best to worst; of equal ones the earlier is better, so that no result is paid for twice."""
    keeping = [at for at, over in enumerate(excess) if over <= 0]
    breaking = [at for at, over in enumerate(excess) if over > 0]
    inside = losses[keeping]
    rank, distance = fronts(inside), np.zeros(len(inside))
    for number in set(rank.tolist()):
        members = np.flatnonzero(rank == number)
        distance[members] = from_ideal(inside[members])
    order = sorted(range(len(inside)), key=lambda at: (rank[at], distance[at], at))
    return [keeping[at] for at in order] + sorted(breaking, key=lambda at: excess[at])


def expected(drop: float, recovered: Sequence[tuple[float, float]], allowed: float) -> float:
    """What a trial that loses `drop` now is expected to lose in the end.

    The least squares' line through what is known, and through two points more that stand for what is not yet: nothing
    stays of nothing, and half of what loses twice as much as is allowed. Training gives back more of a large drop than
    of a small one, so that a share would be wrong for one of them.

    Args:
        drop: quality lost against dense.
        recovered: of the trials that were made to their end, what they lost at the same level and in the end.
        allowed: what may be lost in the end.
    """
    before, after = np.array([(0.0, 0.0), (2 * allowed, allowed), *recovered]).T
    slope = max(0.0, float(np.cov(before, after, bias=True)[0, 1] / before.var()))
    return float(after.mean() + slope * (drop - before.mean()))


def fronts(losses: Losses) -> NDArray[np.int64]:
    """Of each trial the number of its front: 0 for what no other dominates, 1 for what only these do, and so on."""
    no_worse = (losses[:, None, :] <= losses[None, :, :]).all(axis=2)
    better = (losses[:, None, :] < losses[None, :, :]).any(axis=2)
    dominates = no_worse & better
    rank = np.full(len(losses), -1, dtype=np.int64)
    number = 0
    while (rank < 0).any():
        left = rank < 0
        free = left & ~(dominates & left[:, None]).any(axis=0)
        rank[free] = number
        number += 1
    return rank


def hypervolume(losses: Losses, corner: NDArray[np.float64]) -> float:
    """What `losses` dominate of the space up to a corner, slice by slice along the last objective."""
    inside = losses[(losses < corner).all(axis=1)]
    if losses.shape[1] == 1 or not len(inside):
        return float(corner[0] - inside.min()) if len(inside) else 0.0
    ordered = inside[inside[:, -1].argsort()]
    thickness = np.diff(ordered[:, -1], append=corner[-1])
    slices = [hypervolume(ordered[: at + 1, :-1], corner[:-1]) * size for at, size in enumerate(thickness.tolist())]
    return float(sum(slices))


def from_ideal(losses: Losses) -> NDArray[np.float64]:
    """How far each member of a front is from the point with the best of every objective, all of them from 0 to 1."""
    span = np.ptp(losses, axis=0)
    return np.asarray(np.linalg.norm((losses - losses.min(axis=0)) / np.where(span > 0, span, 1.0), axis=1))
