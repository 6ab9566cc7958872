"""From tables to clean rows: the wanted columns, checked, without empty texts and other labels."""

import html
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.core.errors import UserError
from tasks.prepare import labels
from tasks.prepare.table import Table
from tasks.recipe.schema import Data


@dataclass(frozen=True, slots=True)
class Row:
    """One example."""

    text: str
    text_pair: str | None
    label: int
    """Index of its class."""
    key: str
    """Its texts in normal form: two rows with the same key are the same example."""
    home: str
    """What decides on its split: its group, or its first text in normal form."""


Splits = dict[str, list[Row]]


@dataclass(frozen=True)
class Clean:
    """The rows of a source, by the splits it came with."""

    splits: Splits
    classes: list[str]
    dropped: Counter[str]
    """Rows left out: `unlabelled` (a split without any label), `other_labels`, `empty`."""


def clean(tables: Mapping[str, Table], data: Data) -> Clean:
    """Picks and checks what the recipe names.

    Raises:
        UserError: a column is missing or not text, a label is missing or wrong, a text is too long or no Unicode.
    """
    if data.text in {data.label, data.text_pair} or data.label == data.text_pair:
        raise UserError(f"data: text {data.text!r}, text_pair {data.text_pair!r} and label {data.label!r} must differ")
    names = {split: labels.named(table, data) for split, table in tables.items()}
    used = labels.without_unlabelled(tables, names)
    classes = labels.classes({split: names[split] for split in used}, data)
    dropped = Counter(unlabelled=sum(len(tables[split]) for split in tables if split not in used))
    return Clean(
        {split: _rows(tables[split], names[split], classes, data, dropped) for split in used}, classes, dropped
    )


def normal(text: str) -> str:
    """A text's normal form: case folded, every run of white space one blank."""
    return " ".join(text.casefold().split())


def _rows(table: Table, names: list[str | None], classes: list[str], data: Data, dropped: Counter[str]) -> list[Row]:
    first = _texts(table, "data.text", data.text)
    second = _texts(table, "data.text_pair", data.text_pair) if data.text_pair else [None] * len(table)
    groups = table.column("data.group", data.group) if data.group else [None] * len(table)
    index = {name: i for i, name in enumerate(classes)}
    rows = []
    for i, name in enumerate(names):
        if name not in index:
            dropped["other_labels"] += 1
            continue
        text = _text(first[i], table.at(i), data)
        pair = _text(second[i], table.at(i), data) if data.text_pair else None
        if not text or pair == "":
            dropped["empty"] += 1
            continue
        key = normal(text) if pair is None else f"{normal(text)}\0{normal(pair)}"
        group = "" if groups[i] is None else str(groups[i]).strip()
        rows.append(Row(text, pair, index[name], key, f"group\0{group}" if group else normal(text)))
    return rows


def _texts(table: Table, key: str, name: str) -> list[str | None]:
    """A column of texts; what is read from a text file is text, so there a column of numbers alone is the wrong one."""
    values = table.column(key, name)
    for i, value in enumerate(values):
        if value is not None and not isinstance(value, str):
            raise UserError(f"{key}: column {name!r} holds {value!r} ({table.at(i)}), which is no text; name another")
    filled = [value for value in values if value]
    if filled and all(_is_number(value) for value in filled):
        raise UserError(f"{key}: column {name!r} of {table.name} holds only numbers, such as {filled[0]}; name another")
    return values


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _text(value: str | None, where: str, data: Data) -> str:
    text = (html.unescape(value or "") if data.unescape else value or "").strip()
    if len(text) > data.max_chars:
        raise UserError(
            f"{where}: a text of {len(text)} characters; data.max_chars allows {data.max_chars}: "
            "cut the text, raise data.max_chars, or look for a quote that is not closed"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where}: character {error.start + 1} is half of a surrogate pair; give whole characters"
        ) from None
    return text
