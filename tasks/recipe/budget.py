"""The budget held against a model's figures, and the best of several models."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.recipe.schema import Budget

FIGURES = {
    "max_drop": "drop",
    "speedup_b1": "speedup_b1",
    "speedup_b32": "speedup_b32",
    "max_parameters": "parameters_share",
    "max_flops": "flops_share",
}
"""The figure that each limit is about, in the order of the recipe."""
ROUNDING = 1e-9
"""0.85 - 0.83 is a little more than 0.02 in floating point; that is not a broken limit."""


@dataclass(frozen=True)
class Check:
    """One limit of the budget and what a model reaches."""

    name: str
    limit: float
    reached: float | None
    """None: not measured."""
    met: bool

    def __str__(self) -> str:
        reached = "not measured" if self.reached is None else f"{self.reached:.4g}"
        return f"{self.name} {reached} ({'within' if self.met else 'misses'} {self.limit:g})"


def judge(budget: Budget, figures: Mapping[str, Any]) -> list[Check]:
    """Holds `figures` against every limit that the budget sets; a figure that is not there does not meet its limit.

    Args:
        budget: The recipe's.
        figures: `drop` (quality lost against dense), `parameters_share`, `flops_share` (of dense), `speedup_b1`,
            `speedup_b32` (times as fast as dense PyTorch fp32), as far as they are known.
    """
    checks = []
    for name, figure in FIGURES.items():
        limit, reached = getattr(budget, name), figures.get(figure)
        if limit is not None:
            checks.append(Check(name, float(limit), reached, reached is not None and _meets(name, reached, limit)))
    return checks


def verdict(checks: list[Check]) -> str:
    """How a round stands: `broken` if quality is lost, `met` if every target is reached, else `continue`.

    A budget that limits quality alone has no target: the rounds go on until it breaks.
    """
    if any(not check.met for check in checks if check.name == "max_drop"):
        return "broken"
    targets = [check for check in checks if check.name != "max_drop"]
    return "met" if targets and all(check.met for check in targets) else "continue"


def best(checks: Mapping[str, list[Check]], models: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The fastest model that keeps the quality, one that meets the whole budget before any other; None if none does.

    The speed of a model is the smaller of its speed-ups at batch 1 and batch 32; of equally fast ones the one that lost
    less is better. `checks` hold figures on validation, where models are chosen.
    """

    def keeps(name: str) -> bool:
        return all(check.met for check in checks[name] if check.name == "max_drop")

    def rank(name: str) -> tuple[bool, float, float]:
        speeds = [models[name].get(key) or 0.0 for key in ("speedup_b1", "speedup_b32")]
        return all(check.met for check in checks[name]), min(speeds), -models[name]["validation_drop"]

    return max((name for name in models if keeps(name)), key=rank, default=None)


def _meets(name: str, value: float, limit: float) -> bool:
    return value <= limit + ROUNDING if name.startswith("max_") else value >= limit - ROUNDING
