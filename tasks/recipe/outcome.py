"""What a run came to: its models with their figures, the budget held against each, and the best of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.files import read_json
from tasks.recipe.budget import Check, best, judge
from tasks.recipe.schema import Budget

TIMED = ("latency_ms_b1", "latency_ms_b1_p95", "throughput_b32", "speedup_b1", "speedup_b32", "peak_memory")
"""Figures from times.json; None for a model that was not timed."""
BASES = ("dense", "pruned", "student")
METHODS = ("", "fp32", "dynamic", "static", "mixed", "exits", "int8_weights", "int4_weights")


@dataclass(frozen=True)
class Outcome:
    """Models by name: dense, rounds, student, then what was quantized of each."""

    metric: str
    rows: int
    threads: int
    models: dict[str, dict[str, Any]]
    checks: dict[str, list[Check]]
    """Of each model's quality on test."""
    best: str | None
    """The fastest model that keeps the quality on validation."""

    @property
    def met(self) -> bool:
        """Whether the best model meets the whole budget, on test."""
        return self.best is not None and all(check.met for check in self.checks[self.best])

    def keeps_quality(self, name: str) -> bool:
        """Whether a model loses no more on test than the budget allows."""
        return all(check.met for check in self.checks[name] if check.name == "max_drop")


def outcome(budget: Budget, evaluated: Path, times: Path) -> Outcome:
    """Reads the final figures.

    The best model is chosen by `validation_drop`; what is shown, and held against the budget, is measured on test.

    Args:
        budget: The recipe's.
        evaluated: data/evaluate.
        times: data/times.

    Raises:
        FileNotFoundError: The run has not come to its final evaluation.
    """
    quality = read_json(evaluated / "test" / "quality.json")
    clock = read_json(times / "test" / "times.json")
    dense = quality["models"]["dense"]
    models = {}
    for name in sorted(quality["models"], key=_order):
        facts = quality["models"][name]
        shares = {f"{key}_share": facts[key] / dense[key] for key in ("parameters", "flops")}
        models[name] = {"name": name, **facts, **shares, **dict.fromkeys(TIMED), **clock["models"].get(name, {})}
    checks = {name: judge(budget, facts) for name, facts in models.items()}
    choice = {name: judge(budget, {**facts, "drop": facts["validation_drop"]}) for name, facts in models.items()}
    return Outcome(quality["metric"], quality["rows"], clock["threads"], models, checks, best(choice, models))


def round_number(name: str) -> int:
    """10 for r10; 0 for what is no round."""
    return int(name[1:]) if name.startswith("r") and name[1:].isdigit() else 0


def _order(name: str) -> tuple[bool, int, int, int, str]:
    base, _, method = name.partition("-")
    place = BASES.index(base) if base in BASES else 1
    rank = METHODS.index(method) if method in METHODS else len(METHODS)
    return bool(method), place, round_number(base), rank, name


def front(models: Mapping[str, Mapping[str, Any]], cost: str, *, smaller: bool) -> list[str]:
    """Names of the models that no other beats in both quality and `cost`, the cheapest first.

    Args:
        models: By name; those without the figure are left out.
        cost: latency_ms_b1, throughput_b32, …
        smaller: Whether a small `cost` is good.
    """
    sign = 1 if smaller else -1
    known = [name for name in models if models[name].get(cost) is not None]
    found: list[str] = []
    for name in sorted(known, key=lambda name: (sign * models[name][cost], -models[name]["quality"])):
        if not found or models[name]["quality"] > models[found[-1]]["quality"]:
            found.append(name)
    return found
