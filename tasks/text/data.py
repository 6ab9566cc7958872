"""Prepared splits: tokenised rows, and padded batches of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.core.files import read_json

Batch = dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Split:
    """Rows of one split, in the order of its file."""

    input_ids: list[NDArray[np.int64]]
    token_type_ids: list[NDArray[np.int64]] | None
    labels: NDArray[np.int64]
    pad: int
    """Token that fills a batch."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, shape (rows,)."""
        return np.array([len(ids) for ids in self.input_ids])

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> "Split":
        """The given rows alone."""
        types = None if self.token_type_ids is None else [self.token_type_ids[i] for i in rows]
        return Split([self.input_ids[i] for i in rows], types, self.labels[rows], self.pad)

    def batch(self, rows: Sequence[int] | NDArray[np.int64]) -> Batch:
        """The given rows padded to the longest: `input_ids`, `attention_mask` (and types), shape (rows, length)."""
        batch = {"input_ids": _pad([self.input_ids[i] for i in rows], self.pad)}
        batch["attention_mask"] = _pad([np.ones(len(self.input_ids[i]), np.int64) for i in rows], 0)
        if self.token_type_ids is not None:
            batch["token_type_ids"] = _pad([self.token_type_ids[i] for i in rows], 0)
        return batch

    def by_length(self, size: int) -> Iterator[NDArray[np.int64]]:
        """All rows in batches of like length, so that little is padded."""
        order = np.argsort(self.lengths, kind="stable")
        for start in range(0, len(order), size):
            yield order[start : start + size]


def read_split(prepared: Path, name: str) -> Split:
    """Reads `train`, `validation` or `test` of the prepared data."""
    table = pq.read_table(prepared / f"{name}.parquet")
    types = _arrays(table, "token_type_ids") if "token_type_ids" in table.column_names else None
    special: dict[str, Any] = read_json(prepared / "data.json")
    return Split(
        _arrays(table, "input_ids"), types, table["label"].to_numpy().astype(np.int64), special["pad_token_id"]
    )


def read_labels(prepared: Path) -> list[str]:
    """Names of the classes, in the order of their indices."""
    return list(read_json(prepared / "data.json")["labels"])


def _arrays(table: Any, column: str) -> list[NDArray[np.int64]]:
    return [np.asarray(row, dtype=np.int64) for row in table[column].to_pylist()]


def _pad(rows: list[NDArray[np.int64]], fill: int) -> NDArray[np.int64]:
    out = np.full((len(rows), max(len(row) for row in rows)), fill, np.int64)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out
