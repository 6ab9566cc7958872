"""Which rows each step takes, and its learning rate: functions of seed and step, so that a resume needs no state."""

import math

import numpy as np
from numpy.typing import NDArray

POOL = 50
"""Batches among which rows of like length are brought together."""


def epoch_batches(lengths: NDArray[np.int64], size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Row numbers of every batch of an epoch: shuffled, with rows of like length together."""
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), size * POOL):
        pool = order[start : start + size * POOL]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[i : i + size] for i in range(0, len(pool), size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def steps_of(rows: int, size: int, epochs: float) -> int:
    """Steps of a training of so many epochs, a part of one rounded up to whole steps."""
    return math.ceil(-(-rows // size) * epochs)


def learning_rate(step: int, steps: int, peak: float, warmup: float) -> float:
    """Linear from 0 to `peak` over the share `warmup` of the steps, then linear back to 0."""
    rise = max(1, round(steps * warmup)) if warmup else 0
    if step < rise:
        return peak * (step + 1) / rise
    return peak * (steps - step) / max(1, steps - rise)
