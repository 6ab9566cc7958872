"""A model against another on the same rows: what they predict anew, how much one loses, how fast both are."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.core.errors import UserError
from tasks.core.files import file_hash, read_json, tree_bytes
from tasks.evaluate.timing import measure
from tasks.modeling.checkpoint import WEIGHTS
from tasks.modeling.inference import GRAPH, logits, open_model
from tasks.recipe.schema import Evaluate
from tasks.text.data import Split, read_split, read_texts
from tasks.text.metrics import Bootstrap, quality
from tasks.text.registry import read_task
from tasks.text.vocabulary import VOCABULARY

TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class Predicted:
    """What a model says of the rows of a split."""

    predictions: Any
    """One per example, as `predictions.parquet` has them."""
    cells: NDArray[np.float64]
    """What the task's metrics count, shape (examples, …)."""
    quality: float


def predicted(model: Path, split: Split, prepared: Path, metric: str, settings: Evaluate, threads: int) -> Predicted:
    """Runs a model over all rows of a split.

    Args:
        model: Directory of a checkpoint or a graph.
        split: The rows in the ids of its vocabulary.
        prepared: The data they are of, which know the task.
        metric: Of the recipe.
        settings: Its batch size is used.
        threads: Of the CPU.
    """
    task = read_task(prepared)
    said = task.predict(
        logits(open_model(model, threads), split, settings.batch_size), split, read_json(model / "config.json")
    )
    cells = task.cells(said, split)
    return Predicted(said, cells, quality(task.metrics[metric], cells))


@dataclass(frozen=True)
class Comparison:
    """A candidate and the model that it is to replace, on the same rows, in the same process."""

    rows: int
    quality: float
    reference_quality: float
    drop: float
    """How much less the candidate reaches than the reference."""
    drop_high: float
    """Upper end of the 95 % interval of `drop`, by the paired bootstrap."""
    bytes: int
    reference_bytes: int
    latency_ms_b1: float
    reference_latency_ms_b1: float


def compare(
    candidate: Path, reference: Path, prepared: Path, metric: str, settings: Evaluate, seed: int, threads: int
) -> Comparison:
    """Both models predict the test rows; both are timed in turns on some of them.

    Args:
        candidate: Directory of the model.
        reference: Directory of the model that it is to replace.
        prepared: Prepared data; the rows are those of its test split.
        metric: Of the recipe.
        settings: Batch size, resamples, and what is timed.
        seed: Of the resamples.
        threads: Of the CPU.

    Raises:
        UserError: The reference reads other tokens than the data have: it cannot be compared on these rows.
    """
    _same_tokens(reference, prepared)
    torch.set_num_threads(threads)
    models = {"reference": reference, "candidate": candidate}
    splits = {name: read_split(prepared, "test", directory) for name, directory in models.items()}
    said = {name: predicted(models[name], splits[name], prepared, metric, settings, threads) for name in models}
    examples = len(said["candidate"].cells)
    score = read_task(prepared).metrics[metric]
    lost = Bootstrap(score, examples, settings.bootstrap, seed).drop(said["reference"].cells, said["candidate"].cells)
    opened = {name: partial(open_model, directory, threads)() for name, directory in models.items()}
    times: Mapping[str, Mapping[str, float]] = measure(opened, splits, settings)
    return Comparison(
        rows=examples,
        quality=said["candidate"].quality,
        reference_quality=said["reference"].quality,
        drop=lost.value,
        drop_high=lost.high,
        bytes=weight(candidate),
        reference_bytes=weight(reference),
        latency_ms_b1=times["candidate"]["latency_ms_b1"],
        reference_latency_ms_b1=times["reference"]["latency_ms_b1"],
    )


@dataclass(frozen=True)
class Earlier:
    """A candidate and the champion on the test rows that the champion was judged by."""

    rows: int
    quality: float
    reference_quality: float
    drop: float
    drop_high: float
    """As in `Comparison`."""


def earlier(
    candidate: Path,
    reference: Path,
    theirs: Path,
    ours: Path,
    metric: str,
    settings: Evaluate,
    seed: int,
    threads: int,
) -> Earlier:
    """Both models predict the test rows of the champion's data, but for those that the candidate learned from.

    New data whose labels are wrong are wrong in their test rows too: only earlier ones can tell.

    Args:
        candidate: Directory of the model.
        reference: Directory of the champion.
        theirs: Prepared data that the champion learned from.
        ours: Those that the candidate learned from.
        metric: Of the recipe.
        settings: Batch size and resamples.
        seed: Of the resamples.
        threads: Of the CPU.

    Raises:
        UserError: The rows cannot be read by the candidate, have other classes, or are all training rows now.
    """
    _same_tokens(candidate, theirs)
    labels = [read_json(prepared / "data.json")["labels"] for prepared in (theirs, ours)]
    if labels[0] != labels[1]:
        raise UserError(
            f"the champion has the classes {', '.join(labels[0])}, the candidate {', '.join(labels[1])}; "
            "give the recipe another name: a new family of models has a champion of its own"
        )
    rows = _unseen(theirs, ours)
    said = {}
    for name, model in {"reference": reference, "candidate": candidate}.items():
        split = read_split(theirs, "test", model)
        said[name] = predicted(model, split if rows is None else split.take(rows), theirs, metric, settings, threads)
    examples = len(said["candidate"].cells)
    score = read_task(theirs).metrics[metric]
    lost = Bootstrap(score, examples, settings.bootstrap, seed).drop(said["reference"].cells, said["candidate"].cells)
    return Earlier(examples, said["candidate"].quality, said["reference"].quality, lost.value, lost.high)


def _unseen(theirs: Path, ours: Path) -> list[int] | None:
    """The test rows of the champion's data that are no training rows now; None: all of them."""
    test, train = read_texts(theirs, "test"), set(read_texts(ours, "train") or ())
    seen = [text in train for text in test or ()]
    if not any(seen):
        return None
    if (theirs / "test.examples.parquet").is_file() or all(seen):
        raise UserError(
            f"{sum(seen)} of {len(seen)} test rows of the champion's data are training rows now, so nothing can be "
            "compared by them; keep data.test, data.validation and data.group as they were, or set "
            "promote.earlier_margin to null"
        )
    return [row for row, was in enumerate(seen) if not was]


def weight(model: Path) -> int:
    """Bytes of a model's graph or weights."""
    return tree_bytes(model / GRAPH if (model / GRAPH).is_file() else model / WEIGHTS)


def _same_tokens(reference: Path, prepared: Path) -> None:
    """A model whose vocabulary was pruned has a tokenizer of its own, and its ids are looked up."""
    if (reference / VOCABULARY).is_file():
        return
    theirs, ours = reference / TOKENIZER, prepared / "tokenizer" / TOKENIZER
    if theirs.is_file() and ours.is_file() and file_hash(theirs) != file_hash(ours):
        raise UserError(
            "the champion has another tokenizer than the candidate, so they cannot be compared on the same "
            "rows; give the recipe another name: a new family of models has a champion of its own"
        )
