"""The gate: what must hold before a model takes the champion's place."""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flows.lineage.find import Found
from flows.lineage.verify import verify
from tasks.core.files import read_json
from tasks.recipe.schema import Recipe


@dataclass(frozen=True)
class Check:
    """One condition."""

    name: str
    met: bool
    reached: float | None
    limit: float | None
    because: str


def judge(it: Found, reference: Path, theirs: Path | None, recipe: Recipe) -> tuple[list[Check], dict[str, Any]]:
    """All checks, and the figures they rest on; nothing of a model is run whose records do not agree.

    Args:
        it: The candidate.
        reference: Directory of the champion; of the dense model, where there is none.
        theirs: The data that the champion learned from, if they are others than the candidate's.
        recipe: Its `promote` section has the limits.
    """
    key = it.state.home / recipe.promote.key if recipe.promote.key else None
    wrong = next(verify(it, key=key), None)
    prepared = it.state.root / "data" / "prepared"
    checks = [
        Check("lineage", wrong is None, None, None, str(wrong) if wrong else "every record agrees"),
        *_data(prepared),
    ]
    if not all(check.met for check in checks):
        return checks, {}
    from tasks.gate import compare, earlier

    threads = recipe.threads or len(os.sched_getaffinity(0))
    found = compare(it.directory, reference, prepared, recipe.task.metric, recipe.evaluate, recipe.seed, threads)
    limits, before = recipe.promote, None
    if theirs:
        before = earlier(
            it.directory, reference, theirs, prepared, recipe.task.metric, recipe.evaluate, recipe.seed, threads
        )
    slowdown = found.latency_ms_b1 / found.reference_latency_ms_b1
    for name, reached, limit in (
        ("margin", found.drop_high, limits.margin),
        ("earlier_margin", before.drop_high if before else 0.0, limits.earlier_margin if before else None),
        ("max_latency_ms", found.latency_ms_b1, limits.max_latency_ms),
        ("max_slowdown", slowdown, limits.max_slowdown),
        ("max_bytes", found.bytes, limits.max_bytes),
        ("max_growth", found.bytes / found.reference_bytes, limits.max_growth),
    ):
        if limit is not None:
            met = reached <= limit
            words = f"{name} {reached:.4g} {'is within' if met else 'is above'} {limit:g}"
            checks.append(Check(name, met, reached, limit, words))
    return checks, {**asdict(found), "earlier": before and asdict(before)}


def _data(prepared: Path) -> Iterator[Check]:
    """No row in two splits, and rows of every class in each."""
    facts = read_json(prepared / "data.json")
    shared = {name: count for name, count in facts["overlap"].items() if count}
    words = ", ".join(f"{count} in {name}" for name, count in shared.items())
    yield Check("data overlap", not shared, float(sum(shared.values())), 0.0, words or "no row lies in two splits")
    short = [
        f"{name} has no {label}"
        for name, split in facts["splits"].items()
        for label, count in split.get("classes", {}).items()
        if not count
    ]
    words = ", ".join(short) or "every class is in every split"
    yield Check("data classes", not short, float(len(short)), 0.0, words)
