"""The tables, as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, median
from typing import Any

from contenders.figures import Figures
from contenders.fronts import Point, best_other, front, speed_at

DROPS = (0.0, 0.005, 0.01, 0.02, 0.03)
"""Of test accuracy against dense, at which speeds are compared."""


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def every_point(found: Iterable[Figures], dense: Figures) -> str:
    """One row for each point."""
    head = ["contender", "point", "test", "± seeds", "drop", "× b1", "× b32"]
    head += ["ms b1", "rows/s b32", "MB", "peak MB", "steps", "seeds"]
    rows = [
        (
            one.contender, one.point, f"{one.test:.4f}", f"{100 * one.spread:.2f}", points_lost(dense, one),
            *([f"{s:.2f}" for s in one.speedups] if one.speedups else ("", "")),
            _number(one.milliseconds, ".2f"), _number(one.rows, ".0f"), f"{one.bytes / 1e6:.1f}",
            _number(one.memory and one.memory / 1e6, ".0f"), f"{one.spent:.0f}", str(one.seeds),
        )
        for one in found
    ]  # fmt: skip
    return markdown(head, rows)


def points_lost(dense: Figures, one: Figures) -> str:
    """Of test accuracy, in points."""
    return f"{100 * (dense.test - one.test):+.2f}"


def best_within(best: Mapping[str, Figures], dense: Figures) -> str:
    """What was chosen on validation, and what it does on test."""
    head = ("contender", "chosen", "drop on validation", "drop on test", "× b1", "× b32", "bytes / dense")
    ranked = sorted(best.values(), key=lambda one: -min(one.speedups or (0.0, 0.0)))
    rows = [
        (
            one.contender, one.point, f"{100 * (dense.validation - one.validation):+.2f}", points_lost(dense, one),
            *(f"{s:.2f}" for s in one.speedups or ()), f"1/{dense.bytes / one.bytes:.1f}",
        )
        for one in ranked
    ]  # fmt: skip
    return markdown(head, rows)


def at_equal_accuracy(fronts: Sequence[Mapping[str, list[Point]]], ours: str, dense: float) -> str:
    """Ours against the fastest other at the same test accuracy: at fixed drops, and at each point of our front.

    Args:
        fronts: at batch 1 and at batch 32.
        dense: test accuracy of the dense model.
    """
    head = ["drop"]
    for batch in ("b1", "b32"):
        head += [f"× {batch}", f"best other × {batch}", f"ratio {batch}"]
    fixed = [(f"{100 * drop:+.2f}", dense - drop) for drop in DROPS]
    own = {point.name: point for sets in fronts for point in front(sets.get(ours, []))}
    ours_first = sorted(own.values(), key=lambda point: -point.quality)
    named = [(f"{100 * (dense - point.quality):+.2f} ({point.name})", point.quality) for point in ours_first]
    rows = []
    for label, quality in [*fixed, *named]:
        row = [label]
        for sets in fronts:
            speed, other = speed_at(sets.get(ours, []), quality), best_other(sets, ours, quality)
            row.append(_number(speed, ".2f"))
            row.append(f"{other[1]:.2f} ({other[0]})" if other else "none")
            row.append(f"{speed / other[1]:.2f}" if speed and other else "")
        rows.append(row)
    return markdown(head, rows)


def int8_share(timed: Sequence[Mapping[str, Any]], names: Iterable[str]) -> str:
    """Int8 operations a second at batch 32 as a share of the machine's rate, and where the time goes.

    Args:
        names: of artefacts, with the seed.
    """
    rate = mean(line["int8"] for line in timed if line["kind"] == "rate")
    profiles = {line["name"]: line for line in timed if line["kind"] == "profile"}
    head = ("artefact", "int8 GOP of a batch", "ms of a batch", "share of the rate", "time by operator")
    rows = []
    for name in names:
        if name not in profiles or not profiles[name]["operations"]:
            continue
        passes = [line for line in timed if line["kind"] == "pass" and line["name"] == name]
        seconds = median(time for line in passes for time in line["b32"]) / 1000
        spent, operations = profiles[name]["ms"], profiles[name]["operations"]
        whole = sum(spent.values())
        parts = ", ".join(f"{operator} {time / whole:.0%}" for operator, time in list(spent.items())[:6])
        share = f"{operations / seconds / rate:.0%}"
        rows.append((name, f"{operations / 1e9:.2f}", f"{1000 * seconds:.1f}", share, parts))
    return f"MatMulInteger alone: {rate / 1e9:.0f} GOP/s.\n\n" + markdown(head, rows)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
