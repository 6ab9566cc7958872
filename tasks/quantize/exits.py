"""Early exits: a graph that answers from an inner layer where the head there is sure enough (Schwartz et al., 2020)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from transformers import PreTrainedModel

from tasks.core.errors import UserError
from tasks.core.files import write_json
from tasks.families import family_of
from tasks.modeling.inference import EXITS, GRAPH, leaving, open_session
from tasks.quantize.graph import fused_graph
from tasks.quantize.heads import fit_exits
from tasks.quantize.nested import nested, parts
from tasks.quantize.packing import MASK
from tasks.quantize.thresholds import NEVER, Logits, choose, confidence
from tasks.recipe.quantizing import Exits
from tasks.text.data import Batch, Split
from tasks.text.metrics import Bootstrap, Values, quality
from tasks.text.task import TaskType

SIZES = (1, 32)
"""Rows of a batch in which a row may not get another answer."""
RESAMPLES = 1000


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
    quantized. Rows leave where an exit is as sure as the threshold that `choose` finds on validation, which needs no
    labels: it bounds the share of answers that are other ones than those of the same graph without exits, so also what
    accuracy can fall by. That is asked of rows one at a time and in batches: ranges of dynamic int8, and so answers,
    depend on which rows share a batch.

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
    heads = fit_exits(model, after, splits["train"].sample(settings.rows, seed))
    graph = fused_graph(model, pairs=validation.token_type_ids is not None, exits=heads)
    found = _quantized(parts(graph, after), quantizer, batches, calibration)
    said = np.stack([_answers(found, validation, size) for size in SIZES])
    threshold = choose(confidence(said[:, :-1]), said.argmax(-1), settings.max_changed)
    if threshold == NEVER:
        after, found = [], _quantized(parts(graph, []), quantizer, batches, calibration)
    out.mkdir(parents=True)
    onnx.save(nested(found, [threshold] * len(after)), out / GRAPH)
    judge = _Judge(validation, task, metric, model.config.to_dict(), seed)
    record = {
        "layers": [*after, total],
        "threshold": threshold,
        "method": settings.method,
        "max_changed": settings.max_changed,
        "validation": {
            "metric": metric,
            "rows": len(validation),
            **{f"b{size}": judge.facts(out, [*after, total], said[form, -1], size) for form, size in enumerate(SIZES)},
        },
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

    def facts(self, directory: Path, layers: Sequence[int], end: Logits, size: int) -> dict[str, Any]:
        """The graph in batches of `size`: quality, drop and changed answers against the end's, rows by exit."""
        left, logits = leaving(directory, self.split, size)
        own, counts = self.cells(logits), np.bincount(left, minlength=len(layers))
        drop = self.bootstrap.drop(self.cells(end), own)
        return {
            "changed": int((logits.argmax(-1) != end.argmax(-1)).sum()),
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


def _answers(found: Sequence[onnx.ModelProto], split: Split, size: int) -> Logits:
    """Logits by every exit and by the end, shape (exits + 1, rows, classes), of rows in batches of `size`."""
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
