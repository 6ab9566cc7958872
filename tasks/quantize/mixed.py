"""Mixed precision: int8, but for the operators that harm most, so that a promised divergence from fp32 is kept."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from transformers.utils import ModelOutput

from tasks.core.progress import progress
from tasks.modeling.inference import GRAPH, logits, open_model
from tasks.quantize.dynamic import operators
from tasks.text.data import Split
from tasks.text.task import Outputs, TaskType

BATCH = 32
MIXED = "mixed.json"
Quantizer = Callable[[set[str]], onnx.ModelProto]
"""Names of the operators that stay in float32 to the graph."""


@dataclass(frozen=True)
class Mixture:
    """What became of a graph."""

    graph: onnx.ModelProto
    harms: dict[str, float]
    """What int8 in this operator alone adds to the divergence, the worst first."""
    kept: list[str]
    """Operators that stay in float32."""
    divergence: float
    """Of the graph from fp32."""

    def record(self, limit: float, rows: int) -> dict[str, Any]:
        """What mixed.json holds."""
        named = [{"operator": name, "harm": harm, "int8": name not in self.kept} for name, harm in self.harms.items()]
        return {"limit": limit, "divergence": self.divergence, "rows": rows, "kept": len(self.kept), "operators": named}


def mixed(graph: onnx.ModelProto, quantizer: Quantizer, rows: Split, task: TaskType, limit: float) -> Mixture:
    """Leaves the operators in float32 that harm most by themselves, as few as keep the divergence within `limit`.

    Harm and divergence are means over `rows` of KL(fp32 || int8) of what the task makes of the outputs. Each operator
    costs one graph and one pass over the rows; the number that stay is then found by bisection.

    Args:
        graph: fused, float32.
        quantizer: makes the int8 graph.
        rows: that it is measured on.
        task: whose divergence counts.
        limit: in nats; with every operator in float32 it is always kept.
    """
    names = operators(graph)
    reference = _outputs(graph, rows)

    def measured(kept: set[str]) -> tuple[onnx.ModelProto, float]:
        made = quantizer(kept)
        return made, float(divergence(task, rows, reference, _outputs(made, rows)).mean())

    harms = {}
    for number, name in enumerate(names):
        harms[name] = measured(set(names) - {name})[1]
        progress("operator", number + 1, len(names))
    order = sorted(names, key=lambda name: -harms[name])
    low, high = 0, len(names)  # with `high` of them in float32 the limit is kept
    best = graph, 0.0
    while low < high:
        middle = (low + high) // 2
        found = measured(set(order[:middle]))
        if found[1] <= limit:
            high, best = middle, found
        else:
            low = middle + 1
    return Mixture(best[0], {name: harms[name] for name in order}, order[:high], best[1])


def divergence(task: TaskType, rows: Split, reference: Outputs, outputs: Outputs) -> NDArray[np.float64]:
    """KL(reference || outputs) of each row, in nats, shape (rows,): the task's soft loss at temperature 1."""
    fields = task.head.outputs
    parts = [outputs] if len(fields) == 1 else [outputs[:, i] for i in range(len(fields))]
    said = ModelOutput({name: torch.from_numpy(part) for name, part in zip(fields, parts, strict=True)})
    lost = task.soft_loss(said, torch.from_numpy(reference), rows, np.arange(len(rows)), 1.0)
    return np.asarray(lost.double().clamp(min=0.0), np.float64)  # float32 rounds it to a little below 0


def _outputs(graph: onnx.ModelProto, rows: Split) -> Outputs:
    with tempfile.TemporaryDirectory() as directory:
        onnx.save(graph, Path(directory) / GRAPH)
        return logits(open_model(Path(directory), torch.get_num_threads()), rows, BATCH)
