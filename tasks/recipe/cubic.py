"""Ratios of rounds by the cubic schedule: large steps while much is redundant, small ones at the end."""

from tasks.core.errors import UserError


def cubic(final: float, rounds: int, start: float = 0.0) -> list[float]:
    """Ratios removed after each of `rounds` rounds, the last one `final` (AGP; Zhu & Gupta, 2017).

    s_t = s_f + (s_i - s_f) * (1 - t / n)^3 for t = 1..n.

    Args:
        final: share of the dense model's units that goes in the end.
        rounds: n.
        start: share that is gone before the first round.

    Raises:
        UserError: no rounds, or shares that do not satisfy 0 <= start <= final <= 1.
    """
    if rounds < 1:
        raise UserError(f"A cubic schedule has 1 or more rounds, not {rounds}.")
    if not 0 <= start <= final <= 1:
        raise UserError(
            f"A cubic schedule goes from a ratio of 0 or more up to one of at most 1, not from {start:g} to {final:g}."
        )
    return [ratio_at(t / rounds, final, start) for t in range(1, rounds + 1)]


def ratio_at(progress: float, final: float, start: float = 0.0) -> float:
    """Ratio at `progress`, from 0 to 1: final + (start - final) * (1 - progress)^3."""
    return final + (start - final) * (1 - progress) ** 3
