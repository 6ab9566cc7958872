"""What a group costs at a level: parameters and operations by formula, latency by measurement."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tasks.allocate.units import Floats, Integers
from tasks.core.errors import UserError


@dataclass(frozen=True)
class Linear:
    """Parameters or operations: so much for each unit that stays, and a fixed part while any does."""

    unit: float
    fixed: float = 0.0

    def __call__(self, kept: Integers) -> Floats:
        """Cost at each level."""
        return np.where(kept > 0, self.fixed + self.unit * kept, 0.0)


@dataclass(frozen=True, eq=False)
class Latency:
    """Seconds of one group by the number of units it keeps; linear between measured levels."""

    kept: Integers
    """Levels that were measured, ascending."""
    seconds: Floats

    def __call__(self, kept: Integers) -> Floats:
        """Cost at each level.

        Raises:
            UserError: a level is smaller or larger than any that was measured.
        """
        low, high = int(self.kept[0]), int(self.kept[-1])
        outside = kept[(kept < low) | (kept > high)]
        if len(outside):
            raise UserError(
                f"No latency for {int(outside[0])} units: levels from {low} to {high} were measured."
                " Measure the smallest and the largest level, too."
            )
        return np.interp(kept, self.kept, self.seconds)


def latency(measured: Mapping[int, float]) -> Latency:
    """The cost model of one group, from seconds by level, repaired so that more units are never faster.

    The repair is isotonic regression, the non-decreasing values nearest to the measured ones by least squares.
    """
    kept = np.array(sorted(measured), dtype=np.int64)
    return Latency(kept, isotonic(np.array([measured[int(level)] for level in kept], dtype=np.float64)))


def isotonic(values: Floats) -> Floats:
    """The non-decreasing vector nearest to `values` by least squares: neighbours that violate pool their mean."""
    means: list[float] = []
    sizes: list[int] = []
    for value in values:
        mean, size = float(value), 1
        while means and means[-1] > mean:
            before = sizes.pop()
            mean = (means.pop() * before + mean * size) / (before + size)
            size += before
        means.append(mean)
        sizes.append(size)
    return np.repeat(means, sizes)
