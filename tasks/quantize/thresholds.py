"""How sure an exit must be: the thresholds that answer soonest of those that keep a promised quality on validation."""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.text.metrics import Metric, Values

NEVER = 2.0
"""A threshold that no probability reaches."""
LEVELS = 40
"""Thresholds of an exit that are tried, beside `NEVER`: its confidences on validation at even shares of the rows."""

Logits = NDArray[np.float32]


def confidence(logits: Logits) -> NDArray[np.float64]:
    """The largest probability of each row, shape (..., rows)."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return np.asarray(shifted.max(-1) / shifted.sum(-1))


def leave(sure: NDArray[np.float64], thresholds: Sequence[float]) -> NDArray[np.int64]:
    """Number of the exit that each row leaves by: the first that is as sure as its threshold asks, or the end.

    Args:
        sure: confidences, shape (exits, rows).
    """
    there = np.vstack([sure >= np.asarray(thresholds)[:, None], np.ones((1, sure.shape[1]), bool)])
    return np.asarray(there.argmax(0), np.int64)


def choose(
    sure: NDArray[np.float64], cells: Values, metric: Metric, layers: Sequence[int], max_drop: float
) -> list[float]:
    """The thresholds with the fewest layers a row, on average, whose drop of quality is at most `max_drop`.

    The drop is against what the end says of the same rows. All combinations of the levels are tried; of equals the
    highest thresholds are taken. Rows that are equally sure leave together.

    Args:
        sure: confidences of the exits, shape (exits, rows).
        cells: what the metric counts in the answers of each exit and of the end, shape (exits + 1, rows, …).
        metric: of sums of cells.
        layers: number of layers before each exit, and of all.
        max_drop: at least 0, so that never to leave is always allowed.
    """
    base = float(metric(cells[-1].sum(0)))
    levels = [_levels(row) for row in sure]
    flat = cells.reshape(*cells.shape[:2], -1)
    best, fewest = [NEVER] * len(sure), float(layers[-1])
    # Of the last exit all levels are counted at once; `stays` are the rows that came so far.
    left = sure[-1][None] >= levels[-1][:, None]
    for before in itertools.product(*levels[:-1]):
        exits = leave(sure[:-1], before)
        stays = exits == len(before)
        counted, run = np.zeros(flat.shape[-1]), 0
        for number in range(len(before)):
            counted = counted + flat[number][exits == number].sum(0)
            run += layers[number] * int((exits == number).sum())
        last = (left & stays).astype(np.float64)
        counts = counted + last @ flat[-2] + (stays - last) @ flat[-1]
        leaving = last.sum(1)
        means = (run + layers[-2] * leaving + layers[-1] * (stays.sum() - leaving)) / sure.shape[1]
        drops = base - metric(counts.reshape(-1, *cells.shape[2:]))
        means[drops > max_drop + 1e-9] = np.inf
        found = int(means.argmin())
        if means[found] < fewest - 1e-9:
            best, fewest = [*before, levels[-1][found]], float(means[found])
    return [float(level) for level in best]


def _levels(sure: NDArray[np.float64]) -> NDArray[np.float64]:
    """Descending, `NEVER` first; each is a confidence that a row has."""
    return np.array([NEVER, *np.unique(np.quantile(sure, np.linspace(0, 1, LEVELS), method="higher"))[::-1]])
