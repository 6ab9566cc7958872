"""Whether the splits can carry a training and an honest test."""

from collections import Counter
from collections.abc import Collection

from tasks.core.errors import UserError
from tasks.prepare.rows import Splits
from tasks.recipe.schema import Data

LEAST_ROWS = 8


def check(splits: Splits, given: Collection[str], classes: list[str], dropped: Counter[str], data: Data) -> None:
    """Refuses splits that are empty or lack a class.

    Args:
        splits: train, validation and test.
        given: names of the splits that the source came with.
        classes: names of the classes.
        dropped: how many rows were left out, and why; for the message.
        data: shares and limit; for the message.

    Raises:
        UserError: fewer than `LEAST_ROWS` rows, an empty split, a class with fewer than 2 rows in train or none
            elsewhere.
    """
    total = sum(len(rows) for rows in splits.values())
    reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(dropped.items()) if n)
    left = f" (left out: {reasons})" if reasons else ""
    advice = _advice(splits, given, data)
    if total < LEAST_ROWS:
        raise UserError(f"data: {total} rows are left{left}; {LEAST_ROWS} are the least: {advice}")
    for name, rows in splits.items():
        if not rows:
            raise UserError(f"data: {name} has none of {total} rows{left}; {advice}")
        counts = Counter(label for row in rows for label in row.classes)
        least = 2 if name == "train" else 1
        short = [f"{label!r} ({counts[i]})" for i, label in enumerate(classes) if counts[i] < least]
        if short:
            raise UserError(
                f"data: {name} ({len(rows)} rows) has too few rows of {', '.join(short[:10])}, "
                f"the least is {least}{left}; {advice}, or leave the class out by data.labels"
            )


def _advice(splits: Splits, given: Collection[str], data: Data) -> str:
    """What to change so that rows come into the splits."""
    ways = ["give more rows"]
    cut = [f"data.{name} ({getattr(data, name)})" for name in ("validation", "test") if name not in given]
    if cut:
        ways.append(f"change {' or '.join(cut)}")
    if data.group:
        homes = len({row.home for rows in splits.values() for row in rows})
        ways.append(f"choose another data.group ({data.group} has {homes} groups)")
    if data.limit is not None:
        ways.append(f"raise data.limit ({data.limit})")
    return ", ".join(ways)
