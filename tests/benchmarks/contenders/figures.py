"""From raw lines to the figures of each point: means over the seeds."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, median, stdev
from typing import Any

from contenders.fronts import Point

Lines = Iterable[dict[str, Any]]


@dataclass(frozen=True)
class Figures:
    """One point of a contender. Qualities are accuracies, speed-ups are against dense PyTorch of the same seed."""

    contender: str
    point: str
    seeds: int
    test: float
    spread: float
    """Standard deviation of `test` over the seeds."""
    validation: float
    bytes: float
    spent: float
    """Optimiser steps."""
    milliseconds: float | None = None
    """Median of a text alone."""
    rows: float | None = None
    """A second, of the median batch of 32."""
    speedups: tuple[float, float] | None = None
    """At batch 1 and at batch 32."""
    memory: int | None = None

    @property
    def name(self) -> str:
        """Contender and point."""
        return f"{self.contender} {self.point}"


def figures(made: Lines, timed: Lines, dense: str, seeds: Sequence[int]) -> dict[str, Figures]:
    """By name, the contenders in the order of `made`.

    Args:
        made: raw lines of artefacts; those of failures and of other seeds are left out.
        timed: raw lines of one session.
        dense: name of what speed-ups are against.
    """
    passes: dict[str, list[dict[str, Any]]] = defaultdict(list)
    memory: dict[str, int] = {}
    for line in timed:
        if line["kind"] == "pass":
            passes[line["name"]].append(line)
        elif line["kind"] == "memory":
            memory[line["name"].rpartition(" ")[0]] = line["bytes"]
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in made:
        if "error" not in line and line["seed"] in seeds:
            groups[f"{line['contender']} {line['point']}"].append(line)
    found = {}
    for name, group in groups.items():
        tests = [line["quality"]["test"] for line in group]
        ends = [f" {line['seed']}" for line in group if passes.get(f"{name} {line['seed']}")]
        both = [(_medians(passes[dense + end]), _medians(passes[name + end])) for end in ends]
        ratios = [tuple(base[i] / own[i] for base, own in both) for i in (0, 1)] if both else None
        found[name] = Figures(
            group[0]["contender"], group[0]["point"], len(group), mean(tests),
            stdev(tests) if len(tests) > 1 else 0.0,
            mean(line["quality"]["validation"] for line in group),
            mean(line["bytes"] for line in group), mean(line["steps"] for line in group),
            mean(own[0] for _, own in both) if both else None,
            mean(32_000 / own[1] for _, own in both) if both else None,
            (mean(ratios[0]), mean(ratios[1])) if ratios else None,
            memory.get(name),
        )  # fmt: skip
    return found


def _medians(passes: Lines) -> tuple[float, float]:
    """Milliseconds at batch 1 and at batch 32, over all passes."""
    passes = list(passes)
    return median(t for line in passes for t in line["b1"]), median(t for line in passes for t in line["b32"])


def points(
    found: Iterable[Figures], batch: int, start: Figures | None, starting: Collection[str]
) -> dict[str, list[Point]]:
    """By contender, what its front is made of.

    Args:
        batch: 0 for batch 1, 1 for batch 32.
        start: where the fronts of the contenders `starting` begin: nothing is removed yet, only quantized.
    """
    sets: dict[str, list[Point]] = defaultdict(list)
    for one in found:
        if one.speedups:
            sets[one.contender].append(Point(one.point, one.test, one.speedups[batch]))
    if start and start.speedups:
        for name in starting:
            if name in sets:
                sets[name].append(Point("nothing removed", start.test, start.speedups[batch]))
    return dict(sets)


def chosen(found: Iterable[Figures], dense: Figures, drop: float) -> dict[str, Figures]:
    """By contender, the fastest point (by the smaller speed-up) that loses at most `drop` on validation."""
    best: dict[str, Figures] = {}
    for one in found:
        if one.speedups and dense.validation - one.validation <= drop + 1e-9:
            rival = best.get(one.contender)
            if rival is None or min(one.speedups) > min(rival.speedups or (0.0, 0.0)):
                best[one.contender] = one
    return best
