"""How sure an exit must be, so that few answers are other ones than without exits: a promise for texts not seen yet."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

NEVER = 2.0
"""A threshold that no probability reaches."""
CONFIDENCE = 0.95
"""That the promise holds."""
LEVELS = 200
"""Thresholds that are tried: confidences on validation, at even shares of the rows."""

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


def choose(sure: NDArray[np.float64], answers: NDArray[np.int64], max_changed: float) -> float:
    """The lowest threshold, the same for all exits, with which at most `max_changed` of all answers are other ones.

    Thresholds are tried from the highest on. One is accepted if the upper end of the one-sided 95 % interval (Clopper
    & Pearson, 1934) of the share of changed answers is at most `max_changed`; the first that is not ends it. In this
    order, the one that is taken keeps the promise with 95 % confidence however many were tried, for rows drawn as these
    were (Learn then Test with fixed sequence testing: Angelopoulos, Bates, Candès, Jordan & Lei, 2021).

    Args:
        sure: confidences of the exits, shape (forms, exits, rows); forms are ways of batching the same rows.
        answers: classes by each exit and by the end, shape (forms, exits + 1, rows).

    Returns:
        `NEVER` if there are too few rows to promise anything, or an exit is too often wrong where it is surest.
    """
    taken = NEVER
    for threshold in np.unique(np.quantile(sure, np.linspace(0, 1, LEVELS), method="higher"))[::-1]:
        if bound(int(changed(sure, answers, threshold).sum()), sure.shape[-1]) > max_changed:
            break
        taken = float(threshold)
    return taken


def changed(sure: NDArray[np.float64], answers: NDArray[np.int64], threshold: float) -> NDArray[np.bool_]:
    """Which rows get another answer than from the end, in any form; see `choose`."""
    forms = [
        np.take_along_axis(said, leave(own, [threshold] * len(own))[None], 0)[0] != said[-1]
        for own, said in zip(sure, answers, strict=True)
    ]
    return np.asarray(np.any(forms, 0))


def bound(count: int, rows: int) -> float:
    """The upper end of the one-sided 95 % interval of a share of which `count` of `rows` were seen."""
    return 1.0 if count >= rows else float(beta.ppf(CONFIDENCE, count + 1, rows - count))
