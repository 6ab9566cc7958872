"""A round against the budget, on validation; every model of the run, on test."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from transformers import PreTrainedModel

from tasks.core.files import read_json, tree_bytes, write_json
from tasks.core.progress import progress
from tasks.core.rounds import VERDICT
from tasks.evaluate.samples import samples
from tasks.evaluate.timing import generation_speed, measure, peak_memory
from tasks.modeling.checkpoint import WEIGHTS, load
from tasks.modeling.inference import EXITS, GRAPH, Forward, forward, leaving, logits, open_causal, open_model
from tasks.modeling.size import size
from tasks.quantize import write_graph
from tasks.quantize.graph import fused_graph
from tasks.recipe.budget import judge, verdict
from tasks.recipe.schema import Budget, Evaluate
from tasks.text.data import Split, read_split
from tasks.text.metrics import Bootstrap, quality
from tasks.text.registry import read_task
from tasks.text.vocabulary import VOCABULARY


def evaluate_round(
    name: str, model: Path, dense: Path, teacher: Path, prepared: Path, budget: Budget, settings: Evaluate, metric: str,
    out: Path, times: Path, graph: Path | None = None, texts: int | None = None,
) -> None:  # fmt: skip
    """Holds a round's model against the budget on validation; writes `verdict.json`, and `times.json` to `times`.

    Speed is that of the model as it would be delivered against dense PyTorch fp32: dynamic int8 in ONNX Runtime, or a
    causal model in PyTorch, in texts scored, not generated. It is measured only if the budget asks for it and all else
    that it asks for is met: a clock decides nothing needlessly.

    Args:
        graph: the directory of its quantized form, if quality is that of this.
        texts: at most so many are asked; None: all.
    """
    split, own = read_split(prepared, "validation"), read_split(prepared, "validation", model)
    candidate, reference = load(model), load(dense)
    sizes, whole = (size(one, float(rows.lengths.mean())) for one, rows in ((candidate, own), (reference, split)))
    task = read_task(prepared)
    taught = load_file(teacher / "logits.safetensors")["validation"].numpy()
    if texts:
        (split, rows), (own, _) = split.thinned(texts), own.thinned(texts)
        taught = taught[rows]
    run = open_model(graph, torch.get_num_threads()) if graph else forward(candidate)
    said = logits(run, own, settings.batch_size)
    theirs, cells = (
        task.cells(task.predict(outputs, rows, one.config.to_dict()), rows)
        for outputs, rows, one in ((taught, split, reference), (said, own, candidate))
    )
    base, reached = (quality(task.metrics[metric], counted) for counted in (theirs, cells))
    shown = {figure: quality(score, cells) for figure, score in task.figures.items()}
    shares = {f"{key}_share": sizes[key] / whole[key] for key in whole}
    figures = {"quality": reached, "dense_quality": base, "drop": base - reached, **shown, **sizes, **shares}
    measured: dict[str, dict[str, float]] = {}
    checks = judge(budget.model_copy(update={"speedup_b1": None, "speedup_b32": None}), figures)
    if (budget.speedup_b1 or budget.speedup_b32) and all(check.met for check in checks):
        timed = name if task.causal else f"{name}-dynamic"
        with tempfile.TemporaryDirectory() as directory:
            run = forward(candidate) if task.causal else delivered(candidate, own, Path(directory) / name)
            measured = measure({"dense": forward(reference), timed: run}, {"dense": split, timed: own}, settings)
        checks = judge(budget, {**figures, **measured[timed]})
    write_json(times / "times.json", {"threads": torch.get_num_threads(), "models": measured})
    because = "; ".join(f"{check.name} {'met' if check.met else 'missed'}" for check in checks)
    write_json(
        out / VERDICT,
        {"round": name, "state": verdict(checks), "because": because or "the budget sets no limit", **figures},
    )


def delivered(model: PreTrainedModel, split: Split, graph: Path) -> Forward:
    """A classifier as it would be delivered, in ONNX Runtime with dynamic int8; its graph is written to `graph`."""
    fused = fused_graph(model, pairs=split.token_type_ids is not None)
    write_graph(fused, "dynamic", split.take([0]), "", graph)
    return open_model(graph, torch.get_num_threads())


@dataclass(frozen=True)
class Entry:
    """A model of the run."""

    stage: str
    """The one that made it."""
    directory: Path
    checkpoint: Path
    """The PyTorch checkpoint it is, or comes from."""


def evaluate_models(
    models: Mapping[str, Entry], good: str | None, prepared: Path, settings: Evaluate, metric: str,
    seed: int, root: Path, out: Path, times: Path,
) -> None:  # fmt: skip
    """Quality, size and speed of every model on test; writes `quality.json`, `predictions.parquet`, `times.json`.

    Quality on validation is written too: the best model is chosen by it, so that its quality on test is no choice's.
    Of causal models also what they write, in `samples.json`, and how fast: they go on with the longest row.

    Args:
        models: by name; the first is the dense one, which the others are compared with.
        good: name of the last good round, if any.
        root: paths are written relative to it.
    """
    splits, validations = _splits(models, prepared, "test"), _splits(models, prepared, "validation")
    dense = next(iter(models))
    split = splits[dense]
    threads = torch.get_num_threads()
    longest = np.argsort(split.lengths)[-32:]
    opened: dict[str, Forward] = {}
    writing: dict[str, PreTrainedModel] = {}
    memory: dict[str, int | None] = {}
    task = read_task(prepared)
    predictions: dict[str, Any] = {}
    cells: dict[str, NDArray[np.float64]] = {}
    validated: dict[str, float] = {}
    for name, entry in models.items():
        open_it = partial(_writing, name, writing) if task.causal else open_model
        opened[name], memory[name] = peak_memory(
            partial(open_it, entry.directory, threads), splits[name].batch(longest)
        )
        config = read_json(entry.directory / "config.json")
        predictions[name], said = (
            task.predict(logits(opened[name], own, settings.batch_size), own, config)
            for own in (splits[name], validations[name])
        )
        cells[name] = task.cells(predictions[name], splits[name])
        validated[name] = quality(task.metrics[metric], task.cells(said, validations[name]))
        progress("model", len(opened), len(models))
    examples = len(next(iter(cells.values())))
    bootstrap = Bootstrap(task.metrics[metric], examples, settings.bootstrap, seed)
    sizes: dict[Path, dict[str, float]] = {}
    shown = {**task.metrics, **task.figures}
    figures = {}
    for name, entry in models.items():
        if entry.checkpoint not in sizes:
            sizes[entry.checkpoint] = size(load(entry.checkpoint), float(splits[name].lengths.mean()))
        graph = entry.directory / GRAPH
        reached, lost = bootstrap.quality(cells[name]), bootstrap.drop(cells[dense], cells[name])
        figures[name] = {
            "stage": entry.stage,
            "path": entry.directory.relative_to(root).as_posix(),
            "checkpoint": entry.checkpoint.relative_to(root).as_posix(),
            "format": "onnx" if graph.is_file() else "pytorch",
            "quality": reached.value,
            "quality_low": reached.low,
            "quality_high": reached.high,
            "drop": lost.value,
            "drop_low": lost.low,
            "drop_high": lost.high,
            "validation_quality": validated[name],
            "validation_drop": validated[dense] - validated[name],
            "metrics": {other: quality(score, cells[name]) for other, score in shown.items()},
            "bytes": tree_bytes(graph if graph.is_file() else entry.directory / WEIGHTS),
            **sizes[entry.checkpoint],
        }
        if (entry.directory / EXITS).is_file():
            figures[name]["exits"] = _exits(entry.directory, splits[name], settings.batch_size)
    write_json(out / "quality.json", {"metric": metric, "rows": examples, "pruned": good, "models": figures})
    pq.write_table(pa.table({**task.truth(split), **predictions}), out / "predictions.parquet")
    if task.causal and split.documents and settings.prompts:
        directories = {name: entry.directory for name, entry in models.items()}
        texts = split.documents.texts
        made = samples(writing, directories, texts, prepared / "tokenizer", settings, seed)
        write_json(out / "samples.json", made)
    measured = measure(opened, splits, settings)
    if writing:
        prompts = {name: splits[name].input_ids[longest[-1]] for name in writing}
        for name, speed in generation_speed(writing, prompts, settings.new_tokens, settings.repeats).items():
            measured[name] |= speed
    for name, figure in measured.items():
        figure["peak_memory"] = memory[name]  # type: ignore[assignment]
    write_json(times / "times.json", {"threads": threads, "models": measured})


def _writing(name: str, models: dict[str, PreTrainedModel], directory: Path, threads: int) -> Forward:
    """As `open_model`, and keeps the model under its name."""
    models[name] = open_causal(directory, threads)
    return forward(models[name])


def _exits(directory: Path, split: Split, batch_size: int) -> dict[str, Any]:
    """What was promised, and how many rows of `split` leave by each exit, the last being the end."""
    facts = read_json(directory / EXITS)
    left = np.bincount(leaving(directory, split, batch_size)[0], minlength=len(facts["layers"]))
    return {**facts, "left": left.tolist(), "mean_layers": float(left @ facts["layers"] / left.sum())}


def _splits(models: Mapping[str, Entry], prepared: Path, split: str) -> dict[str, Split]:
    """Rows of a split as each model takes them; models of the same vocabulary share them."""
    read: dict[bytes, Split] = {}
    splits = {}
    for name, entry in models.items():
        file = entry.directory / VOCABULARY
        key = file.read_bytes() if file.is_file() else b""
        if key not in read:
            read[key] = read_split(prepared, split, entry.directory)
        splits[name] = read[key]
    return splits
