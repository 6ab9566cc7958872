"""Answers to questions from the start and end logits of the windows of their contexts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.text.data import Windows

N_BEST = 20
"""Answers among which a probability is shared out, as in the official baselines."""
NOTHING = -1e30
"""Score of the empty answer of a context without tokens."""


@dataclass(frozen=True)
class Answers:
    """The best spans of one question, best first, and what speaks for none."""

    spans: list[tuple[int, int]]
    """Characters of the context, from and to."""
    scores: list[float]
    """Start logit plus end logit of each."""
    null: float
    """The smallest, over the windows, of start logit plus end logit of the token that stands for no answer."""

    @property
    def margin(self) -> float:
        """How much more speaks for no answer than for the best one."""
        return self.null - self.scores[0]


def best_spans(logits: NDArray[np.float32], windows: Windows, longest: int, count: int = 1) -> list[Answers]:
    """The spans of highest start logit plus end logit of every example, all of its windows searched in full.

    Args:
        logits: start and end, shape (rows, 2, length); what lies behind a row's tokens is left aside.
        windows: which row belongs to which example.
        longest: most tokens of an answer.
        count: how many spans at most.
    """
    found: list[list[tuple[float, int, int]]] = [[] for _ in windows.contexts]
    nulls = np.full(len(windows.contexts), np.inf)
    for row, example in enumerate(windows.example):
        offsets, null = windows.offsets[row], windows.null[row]
        nulls[example] = min(nulls[example], float(logits[row, 0, null]) + float(logits[row, 1, null]))
        inside = np.flatnonzero(offsets[:, 0] >= 0)
        start = logits[row, 0, inside].astype(np.float64)
        end = np.concatenate([logits[row, 1, inside].astype(np.float64), np.full(longest - 1, -np.inf)])
        if not len(inside):
            continue
        scores = start[:, None] + np.lib.stride_tricks.sliding_window_view(end, longest)
        top = np.argsort(-scores, axis=None, kind="stable")[:count] if count > 1 else [scores.argmax()]
        for first, length in zip(*np.unravel_index(top, scores.shape), strict=True):
            score = float(scores[first, length])
            if score > -np.inf:
                span = int(offsets[inside[first], 0]), int(offsets[inside[first + length], 1])
                found[example].append((score, *span))
    return [_ranked(spans, count, float(null)) for spans, null in zip(found, nulls, strict=True)]


def _ranked(spans: list[tuple[float, int, int]], count: int, null: float) -> Answers:
    """The best different spans; two windows may hold the same one."""
    scores: dict[tuple[int, int], float] = {}
    for score, start, end in sorted(spans, key=lambda span: -span[0]):
        scores.setdefault((start, end), score)
    chosen = list(scores)[:count]
    if not chosen:  # a context without any token
        return Answers([(0, 0)], [NOTHING], null)
    return Answers(chosen, [scores[span] for span in chosen], null)
