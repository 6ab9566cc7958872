"""Pareto fronts of quality and speed, and speeds at equal quality."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Point:
    """An artefact: larger is better in both."""

    name: str
    quality: float
    speed: float


def front(points: Iterable[Point]) -> list[Point]:
    """The points that no other one beats in both, from slow and good to fast and worse; of equals the first."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (-p.speed, -p.quality)):
        if not best or point.quality > best[-1].quality:
            best.append(point)
    return best[::-1]


def speed_at(points: Iterable[Point], quality: float) -> float | None:
    """The speed that a contender reaches without falling below `quality`, on its front.

    Between neighbours on the front the logarithm of the speed is linear in the quality. Nothing is extrapolated: where
    even its fastest point is better than `quality` it is that one's speed, and None where no point reaches it.
    """
    ends = front(points)
    if not ends or quality > ends[0].quality:
        return None
    for slow, fast in pairwise(ends):
        if fast.quality <= quality <= slow.quality:
            part = (slow.quality - quality) / (slow.quality - fast.quality)
            return math.exp((1 - part) * math.log(slow.speed) + part * math.log(fast.speed))
    return ends[-1].speed


def best_other(fronts: Mapping[str, list[Point]], ours: str, quality: float) -> tuple[str, float] | None:
    """Name and speed of the fastest contender but `ours` at this quality; None where none reaches it."""
    speeds = {name: speed_at(points, quality) for name, points in fronts.items() if name != ours}
    reached = {name: speed for name, speed in speeds.items() if speed is not None}
    if not reached:
        return None
    name = max(reached, key=lambda one: reached[one])
    return name, reached[name]
