"""Figures and findings as text."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.recipe.budget import Check
from tasks.recipe.schema import Budget

NOTHING = "–"
LIMITS = {
    "max_drop": ("Loss of quality", "at most", 3, ""),
    "speedup_b1": ("Speed at batch 1", "at least", 2, " ×"),
    "speedup_b32": ("Speed at batch 32", "at least", 2, " ×"),
    "max_parameters": ("Share of the parameters of dense", "at most", 3, ""),
    "max_flops": ("Share of the FLOPs of dense", "at most", 3, ""),
}
"""Title, direction, decimals and unit of each limit of the budget."""


SPEEDS = {"speedup_b1": "(batch 1)", "speedup_b32": "(batch 32)"}


def number(value: float | None, decimals: int = 3) -> str:
    """A number with a true minus sign; a dash for what was not measured."""
    if value is None:
        return NOTHING
    text = f"{value:,.{decimals}f}".replace(",", "\u202f")
    return text.replace("-", "\u2212") if float(f"{value:.{decimals}f}") else text.replace("-", "")


def signed(value: float | None, decimals: int = 3) -> str:
    """A difference: always with its sign."""
    text = number(value, decimals)
    return f"+{text}" if value is not None and float(f"{value:.{decimals}f}") > 0 else text


def scaled(value: float | None, unit: str = "") -> str:
    """Three figures and a prefix: `22.7 M`, `1.36 GFLOP`."""
    if value is None:
        return NOTHING
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            return f"{_three(value / size)}\u00a0{prefix}{unit}"
    return f"{_three(value)}\u00a0{unit}".strip()


def milliseconds(value: float | None) -> str:
    """Three figures."""
    return NOTHING if value is None else _three(value)


def figure(value: float | None) -> str:
    """Four figures, of any size."""
    return NOTHING if value is None else f"{value:.4g}".replace("-", "\u2212")


def answer(value: str | Sequence[str]) -> str:
    """What a model said, or what is right; a dash for nothing."""
    return (value if isinstance(value, str) else ", ".join(value)) or NOTHING


def verdict(budget: Budget, metric: str, model: Mapping[str, Any] | None, checks: Sequence[Check]) -> str:
    """The run in one sentence: the best model, how much faster it is, what it costs, what is missing."""
    if model is None:
        within = f"within {number(budget.max_drop)} of the dense model's {metric.replace('_', ' ')}"
        return f"The budget is not met: no model stays {within} on validation."
    if model["name"] == "dense":
        within = f"within {number(budget.max_drop)} of its {metric.replace('_', ' ')}"
        return f"No model is both faster than dense and {within}."
    speeds = [(model.get(key), words) for key, words in SPEEDS.items()]
    timed = [f"{number(speed, 1)} times {words}" for speed, words in speeds if speed is not None]
    gain = f" is {' and '.join(timed)} as fast as dense" if timed else " was not timed"
    missed = [_missed(check) for check in checks if not check.met]
    text = f"{model['name']}{gain}, with {_difference(metric, model)}"
    if missed:
        return f"{text}. The budget is missed: {'; '.join(missed)}."
    doubt = budget.max_drop is not None and model["drop_high"] > budget.max_drop
    but = f", though a loss beyond {number(budget.max_drop)} is not excluded" if doubt else ""
    return f"{text}. {'The budget is met' if checks else 'There is no limit to meet'}{but}."


def limit(check: Mapping[str, Any]) -> str:
    """`at least 5.00 ×`."""
    _, direction, decimals, unit = LIMITS[check["name"]]
    return f"{direction} {number(check['limit'], decimals)}{unit}"


def reached(check: Mapping[str, Any]) -> str:
    """`5.76 ×`."""
    _, _, decimals, unit = LIMITS[check["name"]]
    return number(check["reached"], decimals) + (unit if check["reached"] is not None else "")


def title(check: Mapping[str, Any]) -> str:
    """What is limited."""
    return LIMITS[check["name"]][0]


def _difference(metric: str, model: Mapping[str, Any]) -> str:
    less = model["drop"] >= 0
    low, high = sorted(value if less else -value for value in (model["drop_low"], model["drop_high"]))
    words = f"{number(abs(model['drop']))} {'less' if less else 'more'} {metric.replace('_', ' ')}"
    return f"{words} (95 % interval {number(low)} to {number(high)})"


def _missed(check: Check) -> str:
    facts = vars(check)
    return f"{title(facts)[0].lower()}{title(facts)[1:]} is {reached(facts)} (asked: {limit(facts)})"


def _three(value: float) -> str:
    decimals = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return number(value, decimals)
