"""Dynamic int8: weights per channel ahead of time, activations by the range of each batch."""

import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

import onnx
from onnx import TensorProto
from onnxruntime.quantization import quantize_dynamic

from tasks.quantize.graph import quiet
from tasks.text.data import Batch

WEIGHTED = ("MatMul", "Gemm", "Gather")
"""Operators that int8 is for, where one of their inputs is a matrix of the model."""


def dynamic(
    graph: onnx.ModelProto,
    batches: Sequence[Batch],  # noqa: ARG001
    calibration: str,  # noqa: ARG001
    kept: Collection[str] = (),
) -> onnx.ModelProto:
    """`graph` with int8 weights and uint8 activations in every matrix product and embedding.

    Args:
        graph: fused, float32.
        batches: not needed.
        calibration: not needed.
        kept: names of operators that stay in float32.
    """
    with tempfile.TemporaryDirectory() as directory, quiet():
        source, target = Path(directory) / "fp32.onnx", Path(directory) / "int8.onnx"
        onnx.save(graph, source)
        quantize_dynamic(
            source,
            target,
            per_channel=True,
            nodes_to_exclude=[name for one in kept for name in (one, f"{one}_MatMul")],  # it rewrites Gemm to MatMul
            extra_options={"DefaultTensorType": TensorProto.FLOAT},
        )
        return onnx.load(target)


def operators(graph: onnx.ModelProto) -> list[str]:
    """Names of the operators that `dynamic` turns to int8."""
    matrices = {
        tensor.name
        for tensor in graph.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2
    }
    return [node.name for node in graph.graph.node if node.op_type in WEIGHTED and matrices & set(node.input)]
