"""Outputs of a split, from a PyTorch model or an ONNX graph, behind one call."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from tasks.core.errors import UserError
from tasks.modeling.checkpoint import head_of, load, read_config
from tasks.modeling.decoding import GraphModel, has_cache
from tasks.text.data import Batch, Split
from tasks.text.generation import Generation
from tasks.text.task import joined

Logits = NDArray[np.float32]
"""(rows, labels), (rows, 2, length) where a model gives several outputs, or what is kept of them; see `Head`."""
Forward = Callable[[Batch], Logits]
GRAPH = "model.onnx"
EXITS = "exits.json"
"""Beside a graph with early exits: where they are, how sure they must be, what was measured on validation."""


def device() -> torch.device:
    """Where models run: the GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def forward(model: PreTrainedModel, *, bf16: bool = False) -> Forward:
    """Batch to logits; moves the model to the device and into eval mode.

    Args:
        bf16: matrix products in bfloat16, otherwise everything in float32.
    """
    head = Generation.head if isinstance(model, GraphModel) else head_of(type(model))
    place = model.to(device()).eval().device

    def run(batch: Batch) -> Logits:
        with torch.inference_mode(), torch.autocast(place.type, torch.bfloat16, enabled=bf16):
            tensors = {name: torch.from_numpy(array).to(place) for name, array in batch.items()}
            return head.kept(model(**tensors), tensors)

    return run


def open_model(directory: Path, threads: int) -> Forward:
    """Batch to logits of the model in `directory`: an ONNX graph if there is one, else a checkpoint.

    Args:
        directory: holds `model.onnx`, or `config.json` with safetensors.
        threads: CPU threads of an ONNX session; PyTorch's are set for the process.

    Raises:
        UserError: neither is there, or it cannot be read.
    """
    if not directory.is_dir():
        raise UserError(f"{directory}: no such model directory")
    if not (directory / GRAPH).is_file():
        return forward(load(directory))
    session = open_session(directory / GRAPH, threads)
    if has_cache(session):
        return forward(GraphModel(read_config(directory), session))
    names = {entry.name for entry in session.get_inputs()}
    outputs = [entry.name for entry in session.get_outputs() if entry.name != "exit"]
    return lambda batch: joined(session.run(outputs, {k: v for k, v in batch.items() if k in names}))


def open_causal(directory: Path, threads: int) -> PreTrainedModel:
    """The model in `directory`, which writes text; see `open_model`.

    Raises:
        UserError: there is none, it cannot be read, or it is a graph without a cache.
    """
    if not (directory / GRAPH).is_file():
        return load(directory).to(device())
    session = open_session(directory / GRAPH, threads)
    if not has_cache(session):
        raise UserError(f"{directory / GRAPH}: a graph without a key-value cache writes no text; export it anew")
    return GraphModel(read_config(directory), session)


def open_session(graph: Path | bytes, threads: int | None = None) -> Any:
    """An ONNX Runtime session of a file or a serialized graph.

    Args:
        graph: what to open.
        threads: CPU threads; None: as many as PyTorch has.

    Raises:
        UserError: it cannot be opened.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    source = str(graph) if isinstance(graph, Path) else graph
    try:
        return ort.InferenceSession(source, options, providers=ort.get_available_providers())
    except Exception as error:  # onnxruntime raises its own unrelated classes
        name = graph if isinstance(graph, Path) else "graph"
        raise UserError(f"{name}: not a graph that ONNX Runtime can open ({error})") from None


def leaving(directory: Path, split: Split, batch_size: int) -> tuple[NDArray[np.int64], Logits]:
    """By which exit each row of a split leaves a graph with early exits, numbered from 0, and its logits."""
    session = open_session(directory / GRAPH)
    names = {entry.name for entry in session.get_inputs()}
    exits, parts = np.empty(len(split), np.int64), []
    for rows in split.by_length(batch_size):
        batch = split.batch(rows)
        said, exits[rows] = session.run(["logits", "exit"], {k: v for k, v in batch.items() if k in names})
        parts.append((rows, said))
    return exits, collected(parts)


def logits(run: Forward, split: Split, batch_size: int) -> Logits:
    """Logits of every row, computed in batches of like length, in the split's order; see `collected`."""
    if not len(split):
        raise ValueError("the split has no rows")
    return collected([(rows, run(split.batch(rows))) for rows in split.by_length(batch_size)])


def collected(parts: Sequence[tuple[NDArray[np.int64], Logits]]) -> Logits:
    """The logits of numbered rows, in the order of the numbers 0 to n - 1; shorter last axes end in -inf."""
    first = parts[0][1]
    shape = (sum(len(rows) for rows, _ in parts), *first.shape[1:-1], max(values.shape[-1] for _, values in parts))
    out = np.full(shape, -np.inf, np.float32)
    for rows, values in parts:
        out[rows, ..., : values.shape[-1]] = values
    return out
