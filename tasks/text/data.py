"""Prepared splits: tokenised rows, and padded batches of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.core.errors import UserError
from tasks.core.files import read_json
from tasks.text.vocabulary import Vocabulary, read_vocabulary

Text = str | tuple[str, str]
Batch = dict[str, NDArray[np.int64]]


def chosen(rows: int, count: int, seed: int) -> NDArray[np.int64]:
    """The numbers of so many of `rows` rows, at random, ascending; of all where there are no more."""
    return np.sort(np.random.default_rng(seed).permutation(rows)[:count])


@dataclass(frozen=True)
class Windows:
    """Questions, and the windows of their contexts that are the rows of a split."""

    ids: list[str]
    """Of the examples; as long are `questions`, `contexts` and `answers` (all that are right; none: there is none)."""
    questions: list[str]
    contexts: list[str]
    answers: list[list[str]]
    example: NDArray[np.int64]
    """Which example each row belongs to, shape (rows,)."""
    null: NDArray[np.int64]
    """Which token of each row stands for no answer, shape (rows,)."""
    offsets: list[NDArray[np.int64]]
    """Characters of the context that each token covers, from and to, shape (length, 2); -1 outside the context."""


@dataclass(frozen=True)
class Documents:
    """Texts, and the windows of them that are the rows of a split."""

    texts: list[str]
    document: NDArray[np.int64]
    """Which of them each row belongs to, shape (rows,)."""


@dataclass(frozen=True)
class Split:
    """Rows of one split, in the order of its file."""

    input_ids: list[NDArray[np.int64]]
    token_type_ids: list[NDArray[np.int64]] | None
    labels: NDArray[np.int64]
    """What is right, the first axis for the rows; the task type says what the others are."""
    pad: int
    """Token that fills a batch."""
    windows: Windows | None = None
    """For question answering."""
    documents: Documents | None = None
    """For generation, where the rows are not blocks of all texts in a stream."""
    pad_left: bool = False
    """Whether a batch is filled before its rows, not behind them."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, shape (rows,)."""
        return np.array([len(ids) for ids in self.input_ids])

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> "Split":
        """The given rows alone."""
        types = None if self.token_type_ids is None else [self.token_type_ids[i] for i in rows]
        windows = self.windows and replace(
            self.windows,
            example=self.windows.example[rows],
            null=self.windows.null[rows],
            offsets=[self.windows.offsets[i] for i in rows],
        )
        documents = self.documents and replace(self.documents, document=self.documents.document[rows])
        ids = [self.input_ids[i] for i in rows]
        return Split(ids, types, self.labels[rows], self.pad, windows, documents, self.pad_left)

    def sample(self, count: int, seed: int) -> "Split":
        """So many rows chosen at random, in their own order; all where there are no more."""
        return self.take(chosen(len(self), count, seed))

    def thinned(self, count: int) -> tuple["Split", NDArray[np.int64]]:
        """At most so many texts, evenly spaced over all, with all their rows; and the numbers of these rows."""
        windows, documents = self.windows, self.documents
        of = windows.example if windows else documents.document if documents else np.arange(len(self))
        step = -(-(len(windows.ids) if windows else len(documents.texts) if documents else len(self)) // count)
        rows = np.flatnonzero(of % step == 0)
        found, of = self.take(rows), of[rows] // step
        if found.windows:
            kept = {key: getattr(found.windows, key)[::step] for key in ("ids", "questions", "contexts", "answers")}
            found = replace(found, windows=replace(found.windows, example=of, **kept))
        if found.documents:
            found = replace(found, documents=Documents(found.documents.texts[::step], of))
        return found, rows

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return int(self.lengths.max())

    def batch(self, rows: Sequence[int] | NDArray[np.int64]) -> Batch:
        """The given rows padded to the longest: `input_ids`, `attention_mask` (and types), shape (rows, length).

        Beyond 64 tokens they are padded on to a multiple of 8: libraries keep a kernel for each shape, and those of
        300 lengths fill gigabytes.
        """
        ids = [self.input_ids[i] for i in rows]
        length = max(len(row) for row in ids)
        length = length if length <= 64 else min(-(-length // 8) * 8, self.longest)
        pad = partial(_pad, length=length, left=self.pad_left)
        batch = {"input_ids": pad(ids, self.pad), "attention_mask": pad([np.ones_like(row) for row in ids], 0)}
        if self.token_type_ids is not None:
            batch["token_type_ids"] = pad([self.token_type_ids[i] for i in rows], 0)
        return batch

    def by_length(self, size: int) -> Iterator[NDArray[np.int64]]:
        """All rows in batches of like length, so that little is padded."""
        order = np.argsort(self.lengths, kind="stable")
        for start in range(0, len(order), size):
            yield order[start : start + size]


def pads_left(config: Mapping[str, Any]) -> bool:
    """Whether a classifier of this config.json takes what stands last in a batch for a row's summary, as XLNet does."""
    return config.get("summary_type") == "last"


def read_split(prepared: Path, name: str, model: Path | None = None) -> Split:
    """Reads `train`, `validation` or `test` of the prepared data.

    Args:
        prepared: out of the prepare stage.
        name: of the split.
        model: directory of the checkpoint or graph that the rows are for; None: one with the vocabulary of the data.
            If its vocabulary was pruned, ids are the new ones. Rows with a token that went are encoded anew.

    Raises:
        UserError: a token went out of a row that is part of a longer text.
    """
    vocabulary = read_vocabulary(model) if model else None
    split = _read(prepared, name)
    return split if vocabulary is None or model is None else _renumbered(split, vocabulary, model, prepared, name)


def read_texts(prepared: Path, name: str) -> list[Text] | None:
    """Texts of a split, or pairs of texts; None where only blocks of them are left.

    They are those of the rows, in their order, or of the examples that the rows are windows of.
    """
    examples = prepared / f"{name}.examples.parquet"
    table = pq.read_table(examples if examples.is_file() else prepared / f"{name}.parquet")
    for first, second in (("text", "text_pair"), ("question", "context")):
        if first in table.column_names:
            texts = table[first].to_pylist()
            pairs = second in table.column_names
            return list(zip(texts, table[second].to_pylist(), strict=True)) if pairs else texts
    return None


def _renumbered(split: Split, vocabulary: Vocabulary, model: Path, prepared: Path, name: str) -> Split:
    table = vocabulary.table
    ids = [table[row] for row in split.input_ids]
    types = None if split.token_type_ids is None else list(split.token_type_ids)
    lost = [i for i, row in enumerate(ids) if (row < 0).any()]
    if lost:
        texts = read_texts(prepared, name)
        if texts is None or (prepared / f"{name}.examples.parquet").is_file():
            raise UserError(
                f"the pruned vocabulary lacks tokens of {len(lost)} rows of {name}, which are windows or blocks of "
                "longer texts and cannot be encoded anew: set prune.vocabulary_min_count to 1 and "
                "prune.vocabulary_size to null"
            )
        longest = read_json(prepared / "data.json")["task"]["max_length"]
        for i, encoded in zip(lost, _encoded(model, [texts[i] for i in lost], longest), strict=True):
            ids[i] = encoded["input_ids"]
            if types is not None:
                types[i] = encoded["token_type_ids"]
    return replace(split, input_ids=ids, token_type_ids=types, pad=int(table[split.pad]))


def _encoded(model: Path, texts: list[Text], longest: int) -> Iterator[dict[str, NDArray[np.int64]]]:
    """Texts as the tokenizer beside `model` reads them, cut off at `longest` tokens."""
    from transformers import AutoTokenizer  # costs seconds, and few models need it here

    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False, local_files_only=True)
    for text in texts:
        pair = text if isinstance(text, tuple) else (text,)
        found = tokenizer(*pair, padding=False, truncation=True, max_length=longest, return_token_type_ids=True)
        yield {key: np.asarray(found[key], np.int64) for key in ("input_ids", "token_type_ids")}


def _read(prepared: Path, name: str) -> Split:
    table = pq.read_table(prepared / f"{name}.parquet")
    types = _arrays(table, "token_type_ids") if "token_type_ids" in table.column_names else None
    special: dict[str, Any] = read_json(prepared / "data.json")
    labels = np.array(table["label"].to_pylist(), np.int64)
    examples = prepared / f"{name}.examples.parquet"
    ids, pad = _arrays(table, "input_ids"), special["pad_token_id"]
    if not examples.is_file():
        return Split(ids, types, labels, pad, pad_left=special["pad_left"])
    if "document" in table.column_names:
        texts = pq.read_table(examples)["text"].to_pylist()
        return Split(ids, types, labels, pad, documents=Documents(texts, table["document"].to_numpy().astype(np.int64)))
    return Split(ids, types, labels, pad, _windows(table, pq.read_table(examples)))


def _windows(table: Any, examples: Any) -> Windows:
    ids, questions, contexts, answers = (
        examples[name].to_pylist() for name in ("id", "question", "context", "answers")
    )
    example, null = (table[name].to_numpy().astype(np.int64) for name in ("example", "null"))
    offsets = [flat.reshape(-1, 2) for flat in _arrays(table, "offsets")]
    return Windows(ids, questions, contexts, answers, example, null, offsets)


def _arrays(table: Any, column: str) -> list[NDArray[np.int64]]:
    return [np.asarray(row, dtype=np.int64) for row in table[column].to_pylist()]


def _pad(rows: list[NDArray[np.int64]], fill: int, *, length: int, left: bool) -> NDArray[np.int64]:
    out = np.full((len(rows), length), fill, np.int64)
    for i, row in enumerate(rows):
        start = length - len(row) if left else 0
        out[i, start : start + len(row)] = row
    return out
