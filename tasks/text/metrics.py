"""Quality of predictions, its 95 % interval, and its paired difference to another model's."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Values = NDArray[np.float64]
Metric = Callable[[Values], Values]
"""Sums over examples of what a task counts (`TaskType.cells`), shape (..., *cells), to values, shape (...)."""


def accuracy(counts: Values) -> Values:
    """Share of the rows that are right; `counts` is a confusion matrix, shape (..., true, predicted)."""
    return np.asarray(np.trace(counts, axis1=-2, axis2=-1) / counts.sum((-2, -1)))


def macro_f1(counts: Values) -> Values:
    """Mean of 2 TP / (true + predicted) over the classes that are there or were predicted."""
    found = counts.sum(-1) + counts.sum(-2)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    scores = np.divide(2 * hits, found, out=np.zeros_like(hits), where=found > 0)
    return np.asarray(scores.sum(-1) / np.maximum((found > 0).sum(-1), 1))


def matthews(counts: Values) -> Values:
    """Matthews correlation of any number of classes (Gorodkin, 2004); 0 where one side is constant."""
    rows, right = counts.sum((-2, -1)), np.trace(counts, axis1=-2, axis2=-1)
    true, predicted = counts.sum(-1), counts.sum(-2)
    covariance = right * rows - (true * predicted).sum(-1)
    scale = np.sqrt((rows**2 - (true**2).sum(-1)) * (rows**2 - (predicted**2).sum(-1)))
    return np.asarray(np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 0))


def confusion(true: Rows, predicted: Rows, classes: int) -> Values:
    """A one in the cell of each row, shape (rows, true, predicted)."""
    cells = np.zeros((len(true), classes, classes))
    cells[np.arange(len(true)), true, predicted] = 1
    return cells


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def quality(metric: Metric, cells: Values) -> float:
    """`metric` over all examples, the first axis of `cells`."""
    return float(metric(cells.sum(0)))


class Bootstrap:
    """The same resamples of examples for every model, so that models are compared in pairs (Efron, 1979)."""

    def __init__(self, metric: Metric, examples: int, resamples: int, seed: int) -> None:
        draws = np.random.default_rng(seed).integers(0, examples, (resamples, examples))
        self.metric = metric
        self.times = np.stack([np.bincount(draw, minlength=examples) for draw in draws]).astype(np.float64)

    def quality(self, cells: Values) -> Interval:
        """The metric of a model with these `cells`, with its percentile interval."""
        return _interval(*self._values(cells))

    def drop(self, base: Values, cells: Values) -> Interval:
        """How much lower `cells` score than those of `base` on the same examples, with the difference's interval."""
        first, second = self._values(base), self._values(cells)
        return _interval(first[0] - second[0], first[1] - second[1])

    def _values(self, cells: Values) -> tuple[float, Values]:
        counts = (self.times @ cells.reshape(len(cells), -1)).reshape(-1, *cells.shape[1:])
        return quality(self.metric, cells), self.metric(counts)


def _interval(value: float, draws: Values) -> Interval:
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(value, float(low), float(high))
