"""Early exits: a graph that answers from an inner layer where the head there is sure enough (Schwartz et al., 2020)."""

from collections.abc import Sequence
from dataclasses import asdict
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
from tasks.recipe.schema import Exits
from tasks.text.data import Batch, Split
from tasks.text.metrics import Bootstrap, Interval, quality
from tasks.text.task import TaskType

BATCH = 32
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
    is at most `max_drop` (or, with `bound`, the upper end of its 95 % interval), those are taken with which rows go
    through the fewest layers. The drop is that of the finished graph: int8 ranges depend on which rows share a batch.

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
    said = _answers(found, validation)
    config = model.config.to_dict()
    cells = np.stack([task.cells(task.predict(logits, validation, config), validation) for logits in said])
    bootstrap = Bootstrap(task.metrics[metric], len(cells[-1]), RESAMPLES, seed)
    out.mkdir(parents=True)
    allowed = settings.max_drop
    while True:
        sure = confidence(said[:-1])
        thresholds = choose(sure, cells, task.metrics[metric], [*after, total], allowed)
        used = [place for place, threshold in enumerate(thresholds) if threshold < NEVER]
        kept = [after[place] for place in used]
        whole = found if kept == after else _quantized(parts(graph, kept), quantizer, batches, calibration)
        onnx.save(nested(whole, [thresholds[place] for place in used]), out / GRAPH)
        left, logits = leaving(out, validation, BATCH)
        own = task.cells(task.predict(logits, validation, config), validation)
        drop = bootstrap.drop(cells[-1], own)
        excess = (upper(drop, len(own)) if settings.bound else drop.value) - settings.max_drop
        if excess <= 1e-9 or not used:
            break
        allowed -= max(excess, 1 / len(own))
    counts = np.bincount(left, minlength=len(kept) + 1)
    facts = {
        "layers": [*kept, total],
        "thresholds": [thresholds[place] for place in used],
        "method": settings.method,
        "max_drop": settings.max_drop,
        "bound": settings.bound,
        "validation": {
            "metric": metric,
            "rows": len(own),
            "quality": quality(task.metrics[metric], own),
            **{f"drop_{key}" if key != "value" else "drop": value for key, value in asdict(drop).items()},
            "left": counts.tolist(),
            "mean_layers": float(counts @ [*kept, total] / counts.sum()),
        },
    }
    write_json(out / EXITS, facts)


def places(depths: Sequence[float], total: int) -> list[int]:
    """Numbers of layers before the exits, ascending, for shares of the `total`.

    Raises:
        UserError: there is no layer that another one follows.
    """
    if total < 2:
        raise UserError(f"exits: the model has {total} layer; an exit needs one that another follows")
    return sorted({min(max(round(depth * total), 1), total - 1) for depth in depths})


def upper(drop: Interval, rows: int) -> float:
    """The upper end of a drop's 95 % interval; at least what `rows` rows without any loss leave possible.

    A bootstrap of rows that lost nothing says that nothing can be lost; the exact binomial limit does not.
    """
    return float(max(drop.high, 1 - 0.025 ** (1 / rows)))


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


def _answers(found: Sequence[onnx.ModelProto], split: Split) -> Answers:
    """What every exit and the end say of all rows."""
    sessions = [open_session(part.SerializeToString()) for part in found]
    said: Any = None
    for rows in split.by_length(BATCH):
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
