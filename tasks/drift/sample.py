"""Texts and labels of data, from a source or from what the prepare stage left of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.core.files import read_json
from tasks.prepare.rows import Splits, normal
from tasks.text.data import Text, read_texts

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Sample:
    """Training rows, and all rows by their text."""

    texts: list[str]
    """Of the training rows, a pair as one; of generation, whose training rows are blocks, those of validation."""
    counts: NDArray[np.int64]
    """Training rows of each class; empty where there are no classes."""
    classes: list[str]
    labels: dict[str, tuple[int, ...]]
    """Classes of every row of all splits, by its text in normal form."""

    @cached_property
    def words(self) -> set[str]:
        """All words of the training rows, in normal form."""
        return {word for text in self.texts for word in normal(text).split()}


def given(splits: Splits, classes: list[str], *, blocks: bool) -> Sample:
    """Of rows that are not yet prepared.

    Args:
        splits: The rows.
        classes: Names of their classes.
        blocks: Whether training makes blocks of them.
    """
    train = splits["validation" if blocks else "train"]
    counts = [sum(label in row.classes for row in train) for label in range(len(classes))]
    labels = {row.key: row.classes for name in SPLITS for row in splits[name]} if classes else {}
    texts = [_joined(row.text, row.text_pair) for row in train]
    return Sample(texts, np.array(counts, np.int64), classes, labels)


def learned(prepared: Path) -> Sample:
    """Of what the prepare stage left."""
    classes: list[str] = read_json(prepared / "data.json")["labels"]
    name = "train" if read_texts(prepared, "train") is not None else "validation"
    texts = [_joined(*_pair(text)) for text in read_texts(prepared, name) or []]
    labels: dict[str, tuple[int, ...]] = {}
    counts = np.zeros(len(classes), np.int64)
    for split in SPLITS if classes else ():
        column = pq.read_table(prepared / f"{split}.parquet", columns=["label"])["label"].to_pylist()
        found = [_classes(value) for value in column]
        labels.update(zip((_key(*_pair(text)) for text in read_texts(prepared, split) or []), found, strict=True))
        if split == name:
            counts = np.array([sum(label in row for row in found) for label in range(len(classes))], np.int64)
    return Sample(texts, counts, classes, labels)


def _classes(value: int | Sequence[int]) -> tuple[int, ...]:
    """A label as prepared data have it: a class, or 0 and 1 for each class."""
    return (value,) if isinstance(value, int) else tuple(i for i, there in enumerate(value) if there)


def _pair(text: Text) -> tuple[str, str | None]:
    return (text, None) if isinstance(text, str) else text


def _joined(text: str, pair: str | None) -> str:
    return text if pair is None else f"{text} {pair}"


def _key(text: str, pair: str | None) -> str:
    return normal(text) if pair is None else f"{normal(text)}\0{normal(pair)}"
