"""What the stage leaves: three parquet files and `data.json`, the same bytes for the same rows."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.prepare.documents import Documents
from tasks.prepare.rows import Answers, Row
from tasks.prepare.tokens import Tokens
from tasks.prepare.windows import Windowed


def write_split(path: Path, rows: Sequence[Row], tokens: Tokens, classes: int) -> None:
    """Writes one row group of zstd, without metadata of any library.

    Columns: text (string), text_pair (string, with pairs), label (int64; of multi-label data list<int8>, 0 or 1 for
    each of the `classes`), input_ids (list<int32>), token_type_ids (list<int8>, with pairs, where the model has them).
    Questions go to a file of their own, NAME.examples.parquet: id, question, context, answers (list<string>). Their
    windows have instead of texts: example (int64), label (list<int32>: first and last token of the answer), null
    (int64: the token that stands for none), offsets (list<int32>: for each token from and to, -1 outside the context).
    Blocks and windows of documents have label (int64: the first token that is scored); windows also document (int64),
    and the documents a file of their own: text.
    """
    if isinstance(tokens, Windowed):
        answers = [row.label for row in rows if isinstance(row.label, Answers)]
        examples = {
            "id": pa.array([one.id for one in answers], pa.string()),
            "question": pa.array([row.text for row in rows], pa.string()),
            "context": pa.array([row.text_pair for row in rows], pa.string()),
            "answers": pa.array([one.texts for one in answers], pa.list_(pa.string())),
        }
        _write(path.with_name(f"{path.stem}.examples.parquet"), examples)
        columns = {
            "example": pa.array(tokens.example, pa.int64()),
            "label": pa.array(tokens.labels, pa.list_(pa.int32())),
            "null": pa.array(tokens.null, pa.int64()),
            "offsets": pa.array(tokens.offsets, pa.list_(pa.int32())),
        }
    elif isinstance(tokens, Documents):
        columns = {"label": pa.array(tokens.labels, pa.int64())}
        if tokens.document is not None:
            columns["document"] = pa.array(tokens.document, pa.int64())
            texts = {"text": pa.array([row.text for row in rows], pa.string())}
            _write(path.with_name(f"{path.stem}.examples.parquet"), texts)
    else:
        columns = {"text": pa.array([row.text for row in rows], pa.string())}
        if any(row.text_pair is not None for row in rows):
            columns["text_pair"] = pa.array([row.text_pair for row in rows], pa.string())
        columns["label"] = _labels(rows, classes)
    columns["input_ids"] = pa.array(tokens.input_ids, pa.list_(pa.int32()))
    if tokens.token_type_ids is not None:
        columns["token_type_ids"] = pa.array(tokens.token_type_ids, pa.list_(pa.int8()))
    _write(path, columns)


def describe(rows: Sequence[Row], tokens: Tokens, classes: Sequence[str], max_length: int) -> dict[str, Any]:
    """Size, balance and lengths of a split; `tokens` counts what there was before longer texts were cut off.

    Of documents also the number of rows made of them, `windows`. Of questions likewise, those without an answer, and
    those whose answer lies whole in no window; a long context is not cut off, a long question is.
    """
    counts = Counter(label for row in rows for label in row.classes)
    windows = {"windows": len(tokens.input_ids)} if isinstance(tokens, Documents) else {}
    truncated = 0 if isinstance(tokens, Documents) else sum(length > max_length for length in tokens.lengths)
    if isinstance(tokens, Windowed):
        answered = sum(isinstance(row.label, Answers) and bool(row.label.texts) for row in rows)
        outside = answered - len(tokens.held)
        windows = {"windows": len(tokens.input_ids), "unanswerable": len(rows) - answered, "outside": outside}
        truncated = len(tokens.cut)
    return {
        "rows": len(rows),
        **windows,
        "classes": {name: counts[i] for i, name in enumerate(classes)},
        "tokens": _spread(tokens.lengths),
        "characters": _spread([len(row.text) + len(row.text_pair or "") for row in rows]),
        "truncated": truncated,
    }


def _labels(rows: Sequence[Row], classes: int) -> pa.Array:
    if all(isinstance(row.label, int) for row in rows):
        return pa.array([row.label for row in rows], pa.int64())
    return pa.array([[int(i in row.classes) for i in range(classes)] for row in rows], pa.list_(pa.int8()))


def _write(path: Path, columns: dict[str, pa.Array]) -> None:
    table = pa.table(columns)
    pq.write_table(table, path, compression="zstd", row_group_size=max(1, len(table)))


def _spread(values: Sequence[int]) -> dict[str, float]:
    """Mean to two decimals, and percentiles by nearest rank."""
    ordered = sorted(values)
    at = {f"p{p}": ordered[math.ceil(p / 100 * len(ordered)) - 1] for p in (50, 95)}
    return {"mean": round(sum(ordered) / len(ordered), 2), **at, "max": ordered[-1]}
