"""Which single weights stay: a score per weight, and a rule that turns scores into a mask (True = kept).

Matrices are (out, in); callers transpose a Conv1D. Equal scores go in order of position, so masks are deterministic.
"""

from typing import Literal

from torch import Tensor

from tasks.core.errors import UserError
from tasks.modeling.lowest import lowest


def magnitude(weight: Tensor) -> Tensor:
    """|w| (out, in) (Han et al., 2015)."""
    return weight.abs()


def wanda(weight: Tensor, gram: Tensor) -> Tensor:
    """|w_ij| ||x_j||_2 (out, in), where the norm of input j over the tokens is sqrt(H_jj) (Sun et al., 2024, "Wanda").

    Wanda compares within each output row: `by_ratio(..., per="row")`. gram: H = X^T X (in, in).
    """
    return weight.abs() * gram.diagonal().sqrt().to(weight)


def by_ratio(scores: Tensor, ratio: float, per: Literal["row", "matrix"] = "row") -> Tensor:
    """Drops the round(ratio n) lowest of `scores` (out, in), n counted in each output row or in the matrix.

    Raises UserError for a ratio outside 0 ... 1. Time O(out in), memory 9 bytes a weight beside the scores.
    """
    table = scores if per == "row" else scores.reshape(1, -1)
    return ~lowest(table, removed(ratio, table.shape[1])).view(scores.shape)


def by_threshold(scores: Tensor, epsilon: float) -> Tensor:
    """Drops what is not above `epsilon`, in the unit of the scores."""
    return scores > epsilon


def by_pattern(scores: Tensor, kept: int, group: int) -> Tensor:
    """n:m sparsity: the `kept` highest of every `group` consecutive inputs of a row stay, as 2 of 4 for "2:4".

    scores: (out, in). Raises UserError if the row does not divide into groups, or if kept is not 0 ... group.
    """
    check_pattern(scores.shape[1], kept, group)
    return ~lowest(scores.reshape(-1, group), group - kept).view(scores.shape)


def removed(ratio: float, weights: int) -> int:
    """How many of `weights` weights go at `ratio`; raises UserError for a ratio outside 0 ... 1."""
    if not 0 <= ratio <= 1:
        raise UserError(f"The ratio {ratio} is the share of weights to remove: give a number from 0 to 1.")
    return round(ratio * weights)


def check_pattern(columns: int, kept: int, group: int) -> None:
    """Raises UserError if rows of `columns` inputs cannot have the pattern kept:group."""
    if not 0 <= kept <= group or group < 1:
        raise UserError(f"The pattern {kept}:{group} keeps {kept} of {group}: give n:m with n from 0 to m, as 2:4.")
    if columns % group:
        raise UserError(
            f"The pattern {kept}:{group} needs rows that divide by {group}, and this matrix has {columns} inputs: "
            "choose another pattern, or a ratio."
        )
