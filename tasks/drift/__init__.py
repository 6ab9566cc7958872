"""New data against those that a model learned from: may a model of these take its place without a human's look?"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.drift.sample import Sample, given, learned
from tasks.drift.shift import class_shift, length_shift, relabelled, unknown_words
from tasks.prepare import CLEAN
from tasks.prepare.check import check
from tasks.prepare.read import read
from tasks.prepare.split import arrange
from tasks.recipe.operating import Retrain
from tasks.recipe.schema import Data, Task


@dataclass(frozen=True)
class Finding:
    """One question that is put to the data."""

    name: str
    met: bool
    reached: float | None
    limit: float | None
    because: str


def compare(source: Path, data: Data, task: Task, seed: int, before: Path | None, limits: Retrain) -> list[Finding]:
    """What is to be said of the new data; nothing is written.

    Args:
        source: The fetched data.
        data: How they are read.
        task: What rows are.
        seed: Of the choice of `data.limit`.
        before: Prepared data that the present champion learned from; None: there is no champion.
        limits: How far the new ones may be from them.

    Raises:
        UserError: They do not have the form that the recipe says: no such column, no rows of a class, ….
    """
    tables = read(source, data, labelled=task.type != "generation")
    rows = CLEAN[task.type](tables, data, task)
    splits = arrange(rows.splits, data, seed, rows.dropped)
    check(splits, rows.splits, rows.classes, rows.dropped, data)
    total = sum(len(split) for split in splits.values())
    found = [
        Finding("form", True, float(total), None, f"{total} rows with every column, class and split there must be")
    ]
    if before is None:
        return found
    return [*found, *_shifts(given(splits, rows.classes, blocks=task.type == "generation"), learned(before), limits)]


def _shifts(now: Sample, then: Sample, limits: Retrain) -> Iterator[Finding]:
    if now.classes or then.classes:
        same = now.classes == then.classes
        words = f"classes {', '.join(now.classes)}, the champion has {', '.join(then.classes)}"
        yield Finding("classes", same, None, None, words)
        if not same:
            return  # a class by its number would be another one
    share = len(now.texts) / len(then.texts)
    if limits.min_rows is not None:
        words = f"{len(now.texts)} training rows, {share:.2f} times the champion's; least is {limits.min_rows:g}"
        yield Finding("rows", share >= limits.min_rows, share, limits.min_rows, words)
    tested: tuple[tuple[str, float | None, Callable[[], tuple[float, float]], str], ...] = (
        ("length shift", limits.max_length_shift, lambda: length_shift(then, now), "Kolmogorov-Smirnov distance"),
        ("class shift", limits.max_class_shift, lambda: class_shift(then, now), "Cramér's V"),
    )
    for name, limit, measure, unit in tested:
        if limit is not None and (name != "class shift" or now.classes):
            shift, p = measure()
            met = shift <= limit or p >= limits.significance
            words = f"{unit} {shift:.3f}, limit {limit:g} (p {p:.2g}, counts below {limits.significance:g})"
            yield Finding(name, met, shift, limit, words)
    shares: tuple[tuple[str, float | None, Callable[[], tuple[float, str]]], ...] = (
        ("unknown words", limits.max_unknown, lambda: unknown_words(then, now)),
        ("relabelled", limits.max_relabelled, lambda: relabelled(then, now)),
    )
    for name, limit, count in shares:
        if limit is not None and (name != "relabelled" or now.classes):
            reached, words = count()
            yield Finding(name, reached <= limit, reached, limit, f"{words}, limit {limit:g}")
