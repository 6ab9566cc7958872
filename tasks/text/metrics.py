"""Quality of predictions, its 95 % interval, and its paired difference to another model's."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Values = NDArray[np.float64]
Metric = Callable[[Values], Values]
"""Confusion counts, shape (..., true, predicted), to values, shape (...)."""


def accuracy(counts: Values) -> Values:
    """Share of the rows that are right."""
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


METRICS: dict[str, Metric] = {"accuracy": accuracy, "macro_f1": macro_f1, "matthews": matthews}


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def quality(metric: Metric, true: Rows, predicted: Rows) -> float:
    """`metric` of the predicted class numbers, shape (rows,)."""
    return float(metric(_onehot(true, predicted, 1 + int(max(true.max(), predicted.max()))).sum(0)))


class Bootstrap:
    """The same resamples of rows for every model, so that models are compared in pairs (Efron, 1979)."""

    def __init__(self, metric: Metric, true: Rows, classes: int, resamples: int, seed: int) -> None:
        rows = len(true)
        draws = np.random.default_rng(seed).integers(0, rows, (resamples, rows))
        self.metric, self.true, self.classes = metric, true, classes
        self.times = np.stack([np.bincount(draw, minlength=rows) for draw in draws]).astype(np.float64)

    def quality(self, predicted: Rows) -> Interval:
        """The metric, with its percentile interval."""
        return _interval(*self._values(predicted))

    def drop(self, base: Rows, predicted: Rows) -> Interval:
        """How much lower `predicted` scores than `base` on the same rows, with the interval of the difference."""
        first, second = self._values(base), self._values(predicted)
        return _interval(first[0] - second[0], first[1] - second[1])

    def _values(self, predicted: Rows) -> tuple[float, Values]:
        cells = _onehot(self.true, predicted, self.classes)
        shape = (-1, self.classes, self.classes)
        counts = (self.times @ cells.reshape(len(predicted), -1)).reshape(shape)
        return float(self.metric(cells.sum(0))), self.metric(counts)


def _onehot(true: Rows, predicted: Rows, classes: int) -> Values:
    cells = np.zeros((len(true), classes, classes))
    cells[np.arange(len(true)), true, predicted] = 1
    return cells


def _interval(value: float, draws: Values) -> Interval:
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(value, float(low), float(high))
