"""Dynamic int8: weights per channel ahead of time, activations by the range of each batch."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx
from onnxruntime.quantization import quantize_dynamic

from tasks.text.data import Batch


def dynamic(graph: onnx.ModelProto, batches: Sequence[Batch], calibration: str) -> onnx.ModelProto:  # noqa: ARG001
    """`graph` with int8 weights and uint8 activations in every matrix product, attention and embedding."""
    with tempfile.TemporaryDirectory() as directory:
        source, target = Path(directory) / "fp32.onnx", Path(directory) / "int8.onnx"
        onnx.save(graph, source)
        options = {"DefaultTensorType": onnx.TensorProto.FLOAT}
        quantize_dynamic(source, target, per_channel=True, extra_options=options)
        return onnx.load(target)
