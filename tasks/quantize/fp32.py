"""The fused graph as it is."""

from collections.abc import Sequence

import onnx

from tasks.text.data import Batch


def fp32(graph: onnx.ModelProto, batches: Sequence[Batch], calibration: str) -> onnx.ModelProto:  # noqa: ARG001
    """`graph` itself, in float32."""
    return graph
