"""The values of a label column as class names."""

import difflib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.core.errors import UserError
from tasks.prepare.table import Table
from tasks.recipe.schema import Data

Named = Mapping[str, list[str | None]]
"""Class names by split, row by row; None where a row has none."""


def named(table: Table, data: Data) -> list[str | None]:
    """Class names of a table: strings stripped, whole numbers in digits, booleans as `true` and `false`.

    Raises:
        UserError: no such column, or a value that can name no class.
    """
    return [_name(value, table.at(i)) for i, value in enumerate(table.column("data.label", data.label))]


def named_many(table: Table, data: Data) -> list[tuple[str, ...] | None]:
    """Class names of each row of a table: a list, as such or in JSON, or names with `data.separator` between them.

    An empty list or text is a row with no label; in a table of such rows alone they are missing.

    Raises:
        UserError: no such column, or a value that can name no class.
    """
    found = [
        _names(value, data.separator, table.at(i)) for i, value in enumerate(table.column("data.label", data.label))
    ]
    return found if any(found) else [None] * len(found)


def without_unlabelled(tables: Mapping[str, Table], names: Mapping[str, Sequence[Any]]) -> list[str]:
    """The splits that can be used: one other than train that has no label at all is hidden test data.

    Raises:
        UserError: a label is missing in a split that has some.
    """
    used = [split for split in names if split == "train" or any(name is not None for name in names[split])]
    for split in used:
        gaps = [i for i, name in enumerate(names[split]) if name is None]
        if gaps:
            raise UserError(
                f"data.label: {len(gaps)} of {len(names[split])} rows have no label, "
                f"the first is {tables[split].at(gaps[0])}; label them or take them out"
            )
    return used


def classes(names: Named, data: Data) -> list[str]:
    """The classes in the order of their indices: `data.labels`, or all that occur, sorted (numbers by size).

    Raises:
        UserError: a name is given twice, does not occur, or fewer than two classes are left.
    """
    found = Counter(name for column in names.values() for name in column if name is not None)
    shown = ", ".join(f"{name} ({n})" for name, n in found.most_common(10)) + (", …" if len(found) > 10 else "")
    if data.labels is None:
        if len(found) < 2:
            raise UserError(f"data.label: column {data.label!r} has one class only: {shown}; a task needs two or more")
        numbers = all(re.fullmatch("-?[0-9]+", name) for name in found)
        return sorted(found, key=lambda name: (int(name), name) if numbers else (0, name))
    given = [label.strip() for label in data.labels]
    twice = sorted({label for label in given if given.count(label) > 1})
    if twice:
        raise UserError(f"data.labels: {', '.join(twice)} is given twice; every class has a name of its own")
    absent = [label for label in given if label not in found]
    if absent:
        near = difflib.get_close_matches(absent[0], found, n=1)
        nearest = f"; the nearest to {absent[0]!r} is {near[0]!r}" if near else ""
        raise UserError(
            f"data.labels: no row has {', '.join(map(repr, absent))}; column {data.label!r} has {shown}{nearest}"
        )
    return given


def _names(value: Any, separator: str, where: str) -> tuple[str, ...] | None:
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: the labels {value!r} are no JSON list ({error.msg})") from None
    elif isinstance(value, str):
        value = [part for part in value.split(separator) if part.strip()]
    elif not isinstance(value, list):
        value = _name(value, where) if value is not None else None
        return None if value is None else (value,)
    names = [_name(part, where) for part in value]
    if None in names:
        raise UserError(f"{where}: one of the labels {value!r} is empty; take it out")
    return tuple(dict.fromkeys(name for name in names if name is not None))


def _name(value: Any, where: str) -> str | None:
    if value is None or value != value:  # NaN
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, int | float) and value == value // 1:
        return str(int(value))
    raise UserError(f"{where}: the label {value!r} names no class; give names, whole numbers or true and false")
