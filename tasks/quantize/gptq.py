"""GPTQ (Frantar et al., 2023): weights are rounded one input after another, and those to come make up for it."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tasks.core.progress import progress
from tasks.modeling.decoding import alone
from tasks.quantize.blocks import BLOCK, Blocks, fitted, in_blocks, nearest
from tasks.quantize.writer import LINEAR
from tasks.text.data import Batch

DAMPING = 0.01


def gptq(weight: NDArray[np.float32], gram: NDArray[np.float32], bits: int) -> Blocks:
    """`weight` in blocks, with little change of what it makes of its inputs.

    The grid of a block is fitted to its weights as they are when it is their turn.

    Args:
        weight: shape (outputs, inputs).
        gram: sum over tokens of x xᵀ of its inputs x, shape (inputs, inputs); `DAMPING` of its mean diagonal is added.
        bits: 4 or 8.
    """
    inputs = weight.shape[1]
    left = in_blocks(weight)
    blocks, width = left.shape[1], left.shape[1] * BLOCK
    hessian = np.zeros((width, width))
    hessian[:inputs, :inputs] = gram
    energy = np.diag(hessian) + (DAMPING * float(np.diag(gram).mean()) or 1.0)
    np.fill_diagonal(hessian, energy)
    upper = np.linalg.cholesky(np.linalg.inv(hessian)).T
    left = left.reshape(len(weight), width)
    integers, scales, zeros = np.zeros_like(left), [], []
    for start in range(0, width, BLOCK):
        here = slice(start, start + BLOCK)
        scale, zero = fitted(left[:, here], energy[here], bits)
        errors = np.zeros((len(weight), BLOCK))
        for column in range(start, start + BLOCK):
            now = left[:, column]
            integers[:, column] = nearest(now, scale, zero, bits)
            error = (now - (integers[:, column] - zero) * scale) / upper[column, column]
            left[:, column + 1 : here.stop] -= np.outer(error, upper[column, column + 1 : here.stop])
            errors[:, column - start] = error
        left[:, here.stop :] -= errors @ upper[here, here.stop :]
        scales.append(scale)
        zeros.append(zero)
    whole = integers.astype(np.uint8).reshape(-1, blocks, BLOCK)
    return Blocks(bits, inputs, whole, np.stack(scales, 1).astype(np.float32), np.stack(zeros, 1).astype(np.uint8))


def grams(
    graph: onnx.ModelProto, batches: Sequence[Batch], without: Sequence[str] = ()
) -> dict[str, NDArray[np.float32]]:
    """Sum over all tokens of x xᵀ of the inputs of every linear layer, by the name of its weight.

    Args:
        graph: of `decoder_graph`.
        batches: rows; what is padded in them does not count.
        without: weights that are left out.
    """
    import onnxruntime as ort

    products = [node for node in graph.graph.node if node.op_type == LINEAR and node.input[1] not in without]
    read = {node.input[1]: node.input[0] for node in products}
    values = sorted(set(read.values()))
    probed = onnx.ModelProto()
    probed.CopyFrom(graph)
    del probed.graph.output[:]
    probed.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in values)
    with tempfile.TemporaryDirectory() as directory:
        onnx.save(probed, Path(directory) / "graph.onnx")
        session = ort.InferenceSession(str(Path(directory) / "graph.onnx"), providers=["CPUExecutionProvider"])
    found: dict[str, NDArray[np.float32]] = {}
    rows = [
        row[seen > 0]
        for batch in batches
        for row, seen in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    for number, row in enumerate(rows):
        for name, x in zip(values, session.run(values, alone(session, row)), strict=True):
            tokens = x.reshape(-1, x.shape[-1])
            found[name] = found.get(name, 0) + tokens.T @ tokens
        progress("row", number + 1, len(rows))
    return {weight: found[name] for weight, name in read.items()}
