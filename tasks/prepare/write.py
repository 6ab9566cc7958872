"""What the stage leaves: three parquet files and `data.json`, the same bytes for the same rows."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.prepare.rows import Row
from tasks.prepare.tokens import Tokens


def write_split(path: Path, rows: Sequence[Row], tokens: Tokens) -> None:
    """Writes one row group of zstd, without metadata of any library.

    Columns: text (string), text_pair (string, with pairs), label (int64), input_ids (list<int32>), token_type_ids
    (list<int8>, with pairs, where the model has them).
    """
    columns: dict[str, pa.Array] = {"text": pa.array([row.text for row in rows], pa.string())}
    if any(row.text_pair is not None for row in rows):
        columns["text_pair"] = pa.array([row.text_pair for row in rows], pa.string())
    columns["label"] = pa.array([row.label for row in rows], pa.int64())
    columns["input_ids"] = pa.array(tokens.input_ids, pa.list_(pa.int32()))
    if tokens.token_type_ids is not None:
        columns["token_type_ids"] = pa.array(tokens.token_type_ids, pa.list_(pa.int8()))
    pq.write_table(pa.table(columns), path, compression="zstd", row_group_size=max(1, len(rows)))


def describe(rows: Sequence[Row], tokens: Tokens, classes: Sequence[str], max_length: int) -> dict[str, Any]:
    """Size, balance and lengths of a split; `tokens` counts what there was before longer texts were cut off."""
    counts = Counter(row.label for row in rows)
    return {
        "rows": len(rows),
        "classes": {name: counts[i] for i, name in enumerate(classes)},
        "tokens": _spread(tokens.lengths),
        "characters": _spread([len(row.text) + len(row.text_pair or "") for row in rows]),
        "truncated": sum(length > max_length for length in tokens.lengths),
    }


def _spread(values: Sequence[int]) -> dict[str, float]:
    """Mean to two decimals, and percentiles by nearest rank."""
    ordered = sorted(values)
    at = {f"p{p}": ordered[math.ceil(p / 100 * len(ordered)) - 1] for p in (50, 95)}
    return {"mean": round(sum(ordered) / len(ordered), 2), **at, "max": ordered[-1]}
