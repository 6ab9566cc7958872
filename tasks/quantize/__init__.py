"""ONNX graphs of a model, whole or with early exits, each a directory that ONNX Runtime loads without Secateur."""

import json
from pathlib import Path

import numpy as np
import onnx
import torch
from transformers import PreTrainedModel

from tasks.core.files import write_json
from tasks.core.progress import progress
from tasks.modeling.checkpoint import load
from tasks.modeling.inference import forward, logits, open_model
from tasks.quantize.decoder import decoder_graph
from tasks.quantize.dynamic import dynamic
from tasks.quantize.exits import write_exits
from tasks.quantize.fp32 import fp32
from tasks.quantize.graph import fused_graph
from tasks.quantize.mixed import MIXED, mixed
from tasks.quantize.static import fixed, inputs, ranges, static
from tasks.quantize.verify import VERIFIED, verify
from tasks.quantize.weights import int4_weights, int8_weights
from tasks.recipe.quantizing import Quantize
from tasks.text.data import Batch, Split, chosen, read_split
from tasks.text.registry import read_task
from tasks.text.task import TaskType
from tasks.text.vocabulary import copy_tokenizer

METHODS = {
    "fp32": fp32,
    "dynamic": dynamic,
    "static": static,
    "int8_weights": int8_weights,
    "int4_weights": int4_weights,
}
CALIBRATION_BATCH = 16


def quantize(model: Path, prepared: Path, settings: Quantize, metric: str, seed: int, out: Path) -> None:
    """Writes a directory per method: `model.onnx`, `config.json`, the tokenizer, `verified.json` and its own records.

    Args:
        model: checkpoint, pruned or not.
        prepared: out of the prepare stage; its training rows calibrate, show which operators int8 harms and fit the
            heads of exits, its validation rows verify every graph.
        metric: quality that exits must keep on validation.
    """
    train, validation = (read_split(prepared, name, model) for name in ("train", "validation"))
    source, task = load(model), read_task(prepared)
    graph = decoder_graph(source) if task.causal else fused_graph(source, pairs=train.token_type_ids is not None)
    calibration = train.sample(settings.calibration_rows, seed)
    seen = chosen(len(validation), settings.verification_rows, seed)
    held = validation.take(seen)
    said = None if task.causal else logits(forward(source), held, CALIBRATION_BATCH)
    for number, method in enumerate(settings.methods):
        if method == "mixed":
            _write_mixed(graph, calibration, task, settings, out / method)
        elif method == "exits":
            splits = {"train": train, "validation": validation}
            _write_exits(source, splits, calibration, task, metric, settings, seed, out / method)
        else:
            write_graph(graph, method, calibration, settings.calibration, out / method)
        config = json.loads((model / "config.json").read_text())
        config.pop("auto_map", None)
        (out / method / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        copy_tokenizer(model, prepared, out / method)
        if said is not None:  # evaluation says by how much the log-likelihood of text differs
            made = logits(open_model(out / method, torch.get_num_threads()), held, CALIBRATION_BATCH)
            names = seen if held.windows is None else np.arange(len(held.windows.ids))
            write_json(out / method / VERIFIED, verify(said, made, held, task, source.config.to_dict(), names))
        progress("method", number + 1, len(settings.methods))


def write_graph(graph: onnx.ModelProto, method: str, rows: Split, calibration: str, directory: Path) -> None:
    """Writes `model.onnx` of one method into `directory`, which is made."""
    directory.mkdir(parents=True)
    onnx.save(METHODS[method](graph, _batches(rows), calibration), directory / "model.onnx")


def _write_mixed(graph: onnx.ModelProto, rows: Split, task: TaskType, settings: Quantize, directory: Path) -> None:
    """Writes `model.onnx` and `mixed.json`: what int8 harms, and what stays in float32."""
    wanted, batches = settings.mixed, _batches(rows)
    found = ranges(graph, inputs(graph), batches, settings.calibration) if wanted.method == "static" else {}

    def quantizer(kept: set[str]) -> onnx.ModelProto:
        made = dynamic(graph, batches, settings.calibration, kept)
        return fixed(made, found) if wanted.method == "static" else made

    probed = rows.take(range(min(wanted.rows, len(rows))))
    mixture = mixed(graph, quantizer, probed, task, wanted.max_divergence)
    directory.mkdir(parents=True)
    onnx.save(mixture.graph, directory / "model.onnx")
    write_json(directory / MIXED, mixture.record(wanted.max_divergence, len(probed)))


def _write_exits(
    source: PreTrainedModel, splits: dict[str, Split], rows: Split, task: TaskType, metric: str, settings: Quantize,
    seed: int, directory: Path,
) -> None:  # fmt: skip
    method = METHODS[settings.exits.method]
    write_exits(
        source, splits, _batches(rows), method, task, metric, settings.exits, settings.calibration, seed, directory
    )


def _batches(rows: Split) -> list[Batch]:
    return [rows.batch(chosen) for chosen in rows.by_length(CALIBRATION_BATCH)]
