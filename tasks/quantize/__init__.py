"""ONNX graphs of a model: float32, int8, int4, early exits; each a directory that ONNX Runtime loads without Secateur."""

import json
from pathlib import Path

import numpy as np
import onnx

from tasks.core.progress import progress
from tasks.modeling.checkpoint import load
from tasks.quantize.decoder import decoder_graph
from tasks.quantize.dynamic import dynamic
from tasks.quantize.exits import write_exits
from tasks.quantize.fp32 import fp32
from tasks.quantize.graph import fused_graph
from tasks.quantize.static import static
from tasks.quantize.weights import int4_weights, int8_weights
from tasks.recipe.schema import Quantize
from tasks.text.data import Batch, Split, read_split
from tasks.text.registry import read_task
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
    """Writes a directory per method: `model.onnx`, `config.json` and the tokenizer; for exits `exits.json` too.

    Args:
        model: checkpoint, pruned or not.
        prepared: out of the prepare stage; its training rows calibrate static int8, and int4, and fit the heads of
            exits.
        metric: quality that exits must keep on validation.
    """
    train = read_split(prepared, "train", model)
    source = load(model)
    causal = read_task(prepared).causal
    plain = [method for method in settings.methods if method in METHODS]
    graph = None
    if plain:
        graph = decoder_graph(source) if causal else fused_graph(source, pairs=train.token_type_ids is not None)
    rows = np.random.default_rng(seed).permutation(len(train))[: settings.calibration_rows]
    calibration = train.take(np.sort(rows))
    for number, method in enumerate(settings.methods):
        if graph is not None and method in METHODS:
            write_graph(graph, method, calibration, settings.calibration, out / method)
        else:
            splits = {"train": train, "validation": read_split(prepared, "validation", model)}
            exits, task = settings.exits, read_task(prepared)
            write_exits(
                source, splits, _batches(calibration), METHODS[exits.method], task, metric, exits,
                settings.calibration, seed, out / method,
            )  # fmt: skip
        config = json.loads((model / "config.json").read_text())
        config.pop("auto_map", None)
        (out / method / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        copy_tokenizer(model, prepared, out / method)
        progress("method", number + 1, len(settings.methods))


def write_graph(graph: onnx.ModelProto, method: str, rows: Split, calibration: str, directory: Path) -> None:
    """Writes `model.onnx` of one method into `directory`, which is made."""
    directory.mkdir(parents=True)
    onnx.save(METHODS[method](graph, _batches(rows), calibration), directory / "model.onnx")


def _batches(rows: Split) -> list[Batch]:
    return [rows.batch(chosen) for chosen in rows.by_length(CALIBRATION_BATCH)]
