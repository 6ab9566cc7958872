"""Weight-only int8 and int4 for graphs of decoders: weights are integers, what they are multiplied with is float32."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from tasks.core.progress import progress
from tasks.quantize.blocks import BLOCK, Blocks, packed, rounded
from tasks.quantize.decoder import EMBEDDING, HEAD
from tasks.quantize.gptq import gptq, grams
from tasks.quantize.writer import LINEAR, MICROSOFT
from tasks.text.data import Batch

INT8_PRODUCTS = 4
"""`accuracy_level`: the operator itself rounds its inputs to int8, block by block, and multiplies integers."""
SENSITIVE = 0.1
"""Share of the weights of layers that int4 leaves as int8."""
WHOLE = (EMBEDDING, f"{HEAD}.weight")
"""Tables of the vocabulary, of which int4 leaves too little."""


def int8_weights(graph: onnx.ModelProto, batches: Sequence[Batch], calibration: str) -> onnx.ModelProto:  # noqa: ARG001
    """`graph` of a decoder with all matrices as int8, rounded to the nearest."""
    return in_integers(graph, lambda _, weight: rounded(weight, 8))


def int4_weights(graph: onnx.ModelProto, batches: Sequence[Batch], calibration: str) -> onnx.ModelProto:  # noqa: ARG001
    """`graph` of a decoder with the matrices of its layers as int4 by GPTQ; embedding, head and what it hurts as int8.

    Args:
        graph: float32.
        batches: rows that the rounding adapts to.
        calibration: says nothing here.
    """
    found, weights = grams(graph, batches, without=WHOLE), {tensor.name: tensor for tensor in graph.graph.initializer}
    small, lost = {}, {}
    for number, (name, gram) in enumerate(found.items()):
        weight = numpy_helper.to_array(weights[name])
        small[name] = gptq(weight, gram, 4)
        lost[name] = energy(small[name].values() - weight, gram) / max(energy(weight, gram), np.finfo(np.float64).tiny)
        progress("matrix", number + 1, len(found))
    for name in sensitive(lost, {name: blocks.integers.size for name, blocks in small.items()}):
        del small[name]
    return in_integers(graph, lambda name, weight: small[name] if name in small else rounded(weight, 8))


def energy(weight: NDArray[np.float32], gram: NDArray[np.float32]) -> float:
    """Sum of the squares of what `weight` makes of the inputs that `gram` is of."""
    return float(np.sum((weight @ gram) * weight, dtype=np.float64))


def sensitive(lost: Mapping[str, float], sizes: Mapping[str, int]) -> list[str]:
    """The matrices that lose the largest parts of their output's energy, worst first: `SENSITIVE` of all weights."""
    room, chosen = SENSITIVE * sum(sizes.values()), []
    for name in sorted(lost, key=lambda name: -lost[name]):
        if sizes[name] <= room:
            chosen.append(name)
            room -= sizes[name]
    return chosen


def in_integers(graph: onnx.ModelProto, choose: Callable[[str, NDArray[np.float32]], Blocks]) -> onnx.ModelProto:
    """`graph` with the weights of its linear layers and its embedding in blocks; one that both share is there once.

    Args:
        graph: of `decoder_graph`.
        choose: (name, weight) to its blocks.
    """
    weights = {tensor.name: tensor for tensor in graph.graph.initializer}
    chosen: dict[str, Blocks] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.graph.node:
        if node.op_type not in {LINEAR, "Gather"}:
            nodes.append(node)
            continue
        table = node.input[1 if node.op_type == LINEAR else 0]
        if table not in chosen:
            chosen[table] = choose(table, numpy_helper.to_array(weights.pop(table)))
        nodes += (_product if node.op_type == LINEAR else _rows)(node, table, chosen[table])
    width = np.array([chosen[EMBEDDING].inputs])
    made = {
        "flat": np.array([0, -1]), "first": np.array([0]), "across": np.array([-1]), "width": width,
        **{f"{name}.{part}": values for name, blocks in chosen.items() for part, values in _parts(blocks).items()},
    }  # fmt: skip
    found = onnx.ModelProto()
    found.CopyFrom(graph)
    del found.graph.node[:], found.graph.initializer[:]
    found.graph.node.extend(nodes)
    found.graph.initializer.extend(weights.values())
    found.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in made.items())
    return found


def _parts(blocks: Blocks) -> dict[str, NDArray[np.generic]]:
    integers, zero = (packed(values, blocks.bits) for values in (blocks.integers, blocks.zero))
    return {"q": integers, "scale": blocks.scale, "zero": zero}


def _product(node: onnx.NodeProto, table: str, blocks: Blocks) -> list[onnx.NodeProto]:
    inputs = [node.input[0], *(f"{table}.{part}" for part in ("q", "scale", "zero"))]
    sizes = {"N": len(blocks.scale), "K": blocks.inputs, "bits": blocks.bits, "block_size": BLOCK}
    facts = {"domain": MICROSOFT, **sizes, "accuracy_level": INT8_PRODUCTS}
    return [helper.make_node("MatMulNBits", inputs, node.output, node.name, **facts)]


def _rows(node: onnx.NodeProto, table: str, blocks: Blocks) -> list[onnx.NodeProto]:
    """Rows of a table, which this operator wants without the axis of blocks; what fills the last block is cut off."""
    flat, wide = f"{table}.flat", f"{table}.wide"
    inputs = [flat, node.input[1], f"{table}.scale", f"{table}.zero"]
    facts = {"bits": blocks.bits, "block_size": BLOCK, "gather_axis": 0, "quantize_axis": 1}
    return [
        helper.make_node("Reshape", [f"{table}.q", "flat"], [flat]),
        helper.make_node("GatherBlockQuantized", inputs, [wide], node.name, domain=MICROSOFT, **facts),
        helper.make_node("Slice", [wide, "first", "width", "across"], node.output),
    ]
