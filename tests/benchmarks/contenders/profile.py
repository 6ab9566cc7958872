"""Where an ONNX artefact's time goes at batch 32, and how many int8 operations it does, as ONNX Runtime tells."""

import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.modeling.inference import GRAPH
from tasks.text.data import Batch

INT8 = ("MatMulInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QAttention", "QGemm", "QLinearMatMul")
"""Operators with a product of int8."""
PARTS = {"QAttention": 3}
"""Products of the size of its output that an operator does, where it is not one: here query, key and value."""


def profile(directory: Path, batches: Sequence[Batch], threads: int) -> dict[str, Any]:
    """Means of a batch: `ms` of each operator, and int8 `operations`, two for each multiply and add."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as place:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(place) / "profile")
        session = onnxruntime.InferenceSession(str(directory / GRAPH), options, providers=["CPUExecutionProvider"])
        names = {entry.name for entry in session.get_inputs()}
        for batch in batches:
            session.run(None, {name: array for name, array in batch.items() if name in names})
        events = json.loads(Path(session.end_profiling()).read_text())
    return summary(events, len(batches))


def summary(events: Sequence[Mapping[str, Any]], batches: int) -> dict[str, Any]:
    """Of a profile's events; see `profile`."""
    micros: dict[str, float] = defaultdict(float)
    operations = 0.0
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        name = event["args"]["op_name"]
        micros[name] += event["dur"]
        if name in INT8:
            given, made = (_first(event["args"][f"{side}_type_shape"]) for side in ("input", "output"))
            operations += 2 * PARTS.get(name, 1) * math.prod(made) * given[-1]
    spent = {name: round(total / 1000 / batches, 4) for name, total in sorted(micros.items(), key=lambda one: -one[1])}
    return {"ms": spent, "operations": operations / batches}


def _first(shapes: Sequence[Mapping[str, list[int]]]) -> list[int]:
    return next(iter(shapes[0].values()))
