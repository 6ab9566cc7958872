"""From tables to clean rows: the wanted columns, checked, without empty texts and other labels."""

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.core.errors import UserError
from tasks.prepare import labels
from tasks.prepare.table import Table
from tasks.recipe.schema import Data


@dataclass(frozen=True, slots=True)
class Answers:
    """What is right for a question."""

    id: str
    """The question's name."""
    texts: tuple[str, ...]
    """Each is right; none: the question has no answer."""
    start: int
    """Character of the context where the first begins."""


Label = int | tuple[int, ...] | Answers


@dataclass(frozen=True, slots=True)
class Row:
    """One example."""

    text: str
    text_pair: str | None
    label: Label
    """Index of its class; for multi-label data those of its classes; for question answering the answers."""
    key: str
    """Its texts in normal form: two rows with the same key are the same example."""
    home: str
    """What decides on its split: its group, or its first text (of questions the context) in normal form."""

    @property
    def classes(self) -> tuple[int, ...]:
        """Indices of its classes."""
        if isinstance(self.label, Answers):
            return ()
        return (self.label,) if isinstance(self.label, int) else self.label


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
    distinct(data)
    names = {split: labels.named(table, data) for split, table in tables.items()}
    used = labels.without_unlabelled(tables, names)
    classes = labels.classes({split: names[split] for split in used}, data)
    index = {name: i for i, name in enumerate(classes)}
    found = {split: [index.get(name or "") for name in names[split]] for split in used}
    return _assembled(tables, found, classes, data)


def clean_many(tables: Mapping[str, Table], data: Data) -> Clean:
    """As `clean`, for any number of labels a row; those that `data.labels` does not name are taken off their rows.

    Raises:
        UserError: as `clean`.
    """
    distinct(data)
    names = {split: labels.named_many(table, data) for split, table in tables.items()}
    used = labels.without_unlabelled(tables, names)
    flat: dict[str, list[str | None]] = {s: [name for row in names[s] for name in row or ()] for s in used}
    classes = labels.classes(flat, data)
    found: dict[str, list[tuple[int, ...]]] = {}
    for split in used:
        chosen = [set(row or ()) for row in names[split]]
        found[split] = [tuple(i for i, name in enumerate(classes) if name in row) for row in chosen]
    return _assembled(tables, found, classes, data)


def clean_documents(tables: Mapping[str, Table], data: Data) -> Clean:
    """As `clean`, of texts without labels."""
    unlabelled: dict[str, list[tuple[int, ...]]] = {split: [()] * len(table) for split, table in tables.items()}
    return _assembled(tables, unlabelled, [], data)


def _assembled(
    tables: Mapping[str, Table], found: Mapping[str, Sequence[Label | None]], classes: list[str], data: Data
) -> Clean:
    """The rows of the splits that have labels; a row whose label is None is left out."""
    dropped = Counter(unlabelled=sum(len(tables[split]) for split in tables if split not in found))
    return Clean({s: _rows(tables[s], values, data, dropped) for s, values in found.items()}, classes, dropped)


def distinct(data: Data) -> None:
    """Refuses columns that are named for two purposes."""
    if data.text in {data.label, data.text_pair} or data.label == data.text_pair:
        raise UserError(f"data: text {data.text!r}, text_pair {data.text_pair!r} and label {data.label!r} must differ")


def normal(text: str) -> str:
    """A text's normal form: case folded, every run of white space one blank."""
    return " ".join(text.casefold().split())


def _rows(table: Table, found: Sequence[Label | None], data: Data, dropped: Counter[str]) -> list[Row]:
    first = texts(table, "data.text", data.text)
    second = texts(table, "data.text_pair", data.text_pair) if data.text_pair else [None] * len(table)
    groups = table.column("data.group", data.group) if data.group else [None] * len(table)
    rows = []
    for i, label in enumerate(found):
        if label is None:
            dropped["other_labels"] += 1
            continue
        text = text_of(first[i], table.at(i), data)
        pair = text_of(second[i], table.at(i), data) if data.text_pair else None
        if not text or pair == "":
            dropped["empty"] += 1
            continue
        key = normal(text) if pair is None else f"{normal(text)}\0{normal(pair)}"
        group = "" if groups[i] is None else str(groups[i]).strip()
        rows.append(Row(text, pair, label, key, f"group\0{group}" if group else normal(text)))
    return rows


def texts(table: Table, key: str, name: str) -> list[str | None]:
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


def text_of(value: str | None, where: str, data: Data) -> str:
    """A text as it is used: with entities as characters if wanted, without white space around it.

    Raises:
        UserError: it is too long or no Unicode.
    """
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
