"""Early exits: a graph that answers from an inner layer where the head there is sure enough (Schwartz et al., 2020)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from transformers import PreTrainedModel

from tasks.core.errors import UserError
from tasks.core.files import write_json
from tasks.families import family_of
from tasks.modeling.inference import EXITS, GRAPH, leaving, open_session
from tasks.quantize.graph import fused_graph
from tasks.quantize.heads import fit_exits
from tasks.quantize.nested import MASK, nested, parts
from tasks.quantize.thresholds import NEVER, choose, confidence
from tasks.recipe.quantizing import Exits
from tasks.text.data import Batch, Split
from tasks.text.metrics import Bootstrap, Values, quality
from tasks.text.task import TaskType

SIZES = (1, 32)
"""Rows of a batch in which the promise must hold."""
RESAMPLES = 1000
Answers = NDArray[np.float32]
"""Logits by each exit and by the end, shape (exits + 1, rows, classes)."""


def write_exits(
    model: PreTrainedModel,
    splits: dict[str, Split],
    batches: Sequence[Batch],
    quantizer: Any,
    task: TaskType,
    metric: str,
    settings: Exits,
    calibration: str,
    seed: int,
    out: Path,
) -> None:
    """Writes `model.onnx` and `exits.json` into `out`, which is made.

    Heads behind inner layers are fitted to the model's own logits on training rows. Every part of the graph is
    quantized. Of the thresholds with which the drop of quality on validation, against the same graph without exits,
    is at most `max_drop`, those are taken with which rows go through the fewest layers. The drop is that of the
    finished graph, one row at a time and in batches, the larger one: ranges of dynamic int8, and so answers, depend on
    which rows share a batch. Its 95 % interval does not know that the thresholds were
    chosen on the same rows.

    Args:
        splits: `train` and `validation`, as the model takes them.
        batches: that set the ranges of static int8.
        quantizer: an entry of `METHODS`.

    Raises:
        UserError: the model has a single layer.
    """
    validation = splits["validation"]
    total = len(model.get_submodule(family_of(model.config.model_type).layers))
    after = places(settings.depths, total)
    chosen = np.random.default_rng(seed).permutation(len(splits["train"]))[: settings.rows]
    heads = fit_exits(model, after, splits["train"].take(np.sort(chosen)))
    graph = fused_graph(model, pairs=validation.token_type_ids is not None, exits=heads)
    found = _quantized(parts(graph, after), quantizer, batches, calibration)
    judge = _Judge(validation, task, metric, model.config.to_dict(), seed)
    said = {size: _answers(found, validation, size) for size in SIZES}
    cells = {size: np.stack([judge.cells(logits) for logits in said[size]]) for size in SIZES}
    sure = np.hstack([confidence(said[size][:-1]) for size in SIZES])
    counted = np.concatenate([cells[size] for size in SIZES], axis=1)
    out.mkdir(parents=True)
    allowed = settings.max_drop
    while True:
        thresholds = choose(sure, counted, task.metrics[metric], [*after, total], allowed)
        used = [place for place, threshold in enumerate(thresholds) if threshold < NEVER]
        kept = [after[place] for place in used]
        whole = found if kept == after else _quantized(parts(graph, kept), quantizer, batches, calibration)
        onnx.save(nested(whole, [thresholds[place] for place in used]), out / GRAPH)
        facts = [judge.facts(out, [*kept, total], cells[size][-1], size) for size in SIZES]
        worst = max(facts, key=lambda entry: entry["drop"])
        excess = worst["drop"] - settings.max_drop
        if excess <= 1e-9 or not used:
            break
        allowed -= max(excess, 1 / len(validation))
    record = {
        "layers": [*kept, total],
        "thresholds": [thresholds[place] for place in used],
        "method": settings.method,
        "max_drop": settings.max_drop,
        "validation": {"metric": metric, "rows": len(validation), **worst},
    }
    write_json(out / EXITS, record)


class _Judge:
    """What a graph with exits loses on validation."""

    def __init__(self, split: Split, task: TaskType, metric: str, config: dict[str, Any], seed: int) -> None:
        self.split, self.task, self.metric, self.config = split, task, task.metrics[metric], config
        self.bootstrap = Bootstrap(self.metric, len(split), RESAMPLES, seed)

    def cells(self, logits: Any) -> Values:
        """What the metric counts."""
        return self.task.cells(self.task.predict(logits, self.split, self.config), self.split)

    def facts(self, directory: Path, layers: Sequence[int], base: Values, size: int) -> dict[str, Any]:
        """The graph's quality in batches of `size`, its drop against `base`, and the rows that left by each exit."""
        left, logits = leaving(directory, self.split, size)
        own, counts = self.cells(logits), np.bincount(left, minlength=len(layers))
        drop = self.bootstrap.drop(base, own)
        return {
            "batch": size,
            "quality": quality(self.metric, own),
            "drop": drop.value,
            "drop_low": drop.low,
            "drop_high": drop.high,
            "left": counts.tolist(),
            "mean_layers": float(counts @ layers / counts.sum()),
        }


def places(depths: Sequence[float], total: int) -> list[int]:
    """Numbers of layers before the exits, ascending, for shares of the `total`.

    Raises:
        UserError: there is no layer that another one follows.
    """
    if total < 2:
        raise UserError(f"exits: the model has {total} layer; an exit needs one that another follows")
    return sorted({min(max(round(depth * total), 1), total - 1) for depth in depths})


def _quantized(
    found: Sequence[onnx.ModelProto], quantizer: Any, batches: Sequence[Batch], calibration: str
) -> list[onnx.ModelProto]:
    """Each part quantized, its ranges set by what the parts before it give in float32."""
    quantized, given = [], list(batches)
    for part in found:
        quantized.append(quantizer(part, given, calibration))
        if part is not found[-1]:
            session = open_session(part.SerializeToString())
            given = [_following(batch, session.run(["hidden"], batch)[0]) for batch in given]
    return quantized


def _answers(found: Sequence[onnx.ModelProto], split: Split, size: int) -> Answers:
    """What every exit and the end say of all rows, in batches of `size`."""
    sessions = [open_session(part.SerializeToString()) for part in found]
    said: Any = None
    for rows in split.by_length(size):
        batch = split.batch(rows)
        for number, session in enumerate(sessions):
            logits, *hidden = session.run(None, batch)
            if said is None:
                said = np.empty((len(found), len(split), logits.shape[1]), np.float32)
            said[number, rows] = logits
            if hidden:
                batch = _following(batch, hidden[0])
    return np.asarray(said)


def _following(batch: Batch, hidden: Any) -> Batch:
    return {"before": hidden, MASK: batch[MASK]}
