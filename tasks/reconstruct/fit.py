"""Fits a matrix of a model to what is wanted of it, no more closely than its calibration rows bear.

A fit to few tokens follows their noise. So the tokens are summed in two halves, and of some pulls towards the present
weights the one is taken whose fit to either half is best on the other (two-fold cross-validation of ridge regression;
Stone, 1974). With a strong pull weights stay as they are, so a fit is hardly ever worse than none.
"""

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tasks.modeling.matrices import Matrix
from tasks.reconstruct.gram import Gram
from tasks.reconstruct.least_squares import Normal, least_squares

TIMES = (1, 3, 10, 30, 100, 300, 1000)
"""What the damping is multiplied with."""
Halves = tuple[Gram, Gram]
"""Batches go to them in turn."""


def nothing(matrix: Matrix, outputs: bool) -> Halves:
    """Sums over no tokens yet, with or without what is wanted of them."""
    sizes = (matrix.width, matrix.parameter.numel() // matrix.width if outputs else None, matrix.parameter.device)
    return Gram.empty(*sizes), Gram.empty(*sizes)


def aimed(matrix: Matrix, sums: Halves) -> Halves:
    """The same sums; where nothing is wanted yet, what the matrix gives is."""
    weight, bias = matrix.read(), None if matrix.bias is None else matrix.bias.detach()
    return sums[0].aimed(weight, bias), sums[1].aimed(weight, bias)


def fit(matrix: Matrix, sums: Halves, stay: Tensor, damping: float) -> float:
    """Sets the columns `stay` of a matrix and its bias to the fit, the others to 0; returns the fit's error.

    Args:
        sums: over two halves of the calibration tokens; the second may have none.
        stay: which inputs stay, bool (inputs,).
        damping: the least; see `least_squares`.
    """
    sums = aimed(matrix, sums)
    bias = None if matrix.bias is None else matrix.bias.detach()
    best = bearable(matrix.read(), sums, stay.nonzero().flatten(), damping, bias)
    return put(matrix, sums[0] + sums[1], stay, best)


def put(matrix: Matrix, gram: Gram, stay: Tensor, damping: float) -> float:
    """As `fit`, by the sums over all tokens and with a damping that is known."""
    weight, columns = matrix.read(), stay.nonzero().flatten()
    found = least_squares(weight, gram, columns, damping, None if matrix.bias is None else matrix.bias.detach())
    values = torch.zeros_like(weight)
    values[:, columns] = found.weight
    matrix.write(values)
    if matrix.bias is not None and found.bias is not None:
        matrix.bias.data.copy_(found.bias)
    return found.error


def bearable(weight: Tensor, sums: Sequence[Gram], kept: Tensor, damping: float, bias: Tensor | None = None) -> float:
    """The damping, or a multiple of it, whose fit to either half misses least of the other.

    What is missed falls and then rises with the damping, so it is followed from the middle of `TIMES`.
    """
    if not all(half.tokens for half in sums):
        return damping
    first, second = (Normal(weight, half, kept, bias) for half in sums)

    @functools.cache
    def lost(at: int) -> float:
        if not 0 <= at < len(TIMES):
            return math.inf
        ways = ((first, second), (second, first))
        return sum(held.missed(*given.solve(damping * TIMES[at])) for given, held in ways)

    best = len(TIMES) // 2
    step = 1 if lost(best + 1) < lost(best) else -1
    while lost(best + step) < lost(best):
        best += step
    return damping * TIMES[best]
