"""One ONNX graph of a model in parts: rows whose exit is sure leave, and only the others go through the next part."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.utils import Extractor

from tasks.quantize.packing import MASK, packed

LOGITS, EXIT = "logits", "exit"
"""The outputs of the whole: `exit` (rows,) says by which exit each row left, from 0."""


def parts(graph: onnx.ModelProto, after: Sequence[int]) -> list[onnx.ModelProto]:
    """A graph that `fused_graph` made with exits, cut behind each of them.

    The first part takes the inputs of the whole, the others `hidden` and the mask; each gives `logits`, all but the
    last `hidden` too.
    """
    extractor = Extractor(graph)
    found, inputs = [], [entry.name for entry in graph.graph.input]
    for k in (*after, None):
        outputs = [LOGITS] if k is None else [f"{LOGITS}_{k}", f"hidden_{k}"]
        part = extractor.extract_model(inputs, outputs)
        names = {outputs[0]: LOGITS, outputs[-1]: LOGITS if k is None else "hidden"}
        names |= {name: "before" for name in inputs if name.startswith("hidden_")}
        _rename(part.graph, names)
        found.append(packed(part))
        inputs = [f"hidden_{k}", MASK]
    return found


def nested(found: Sequence[onnx.ModelProto], thresholds: Sequence[float]) -> onnx.ModelProto:
    """`parts`, quantized or not, as one graph: the inputs of the first to `logits` (rows, classes) and `exit` (rows,).

    A row leaves by the first exit whose largest probability is at least its threshold. The rows that stay are packed,
    without the columns that only the others filled, and the rest of the model is the branch of an `If` that runs when
    there are any: a batch costs what its undecided rows cost.
    """
    inner = _end(found[-1].graph, len(found) - 1)
    for number in reversed(range(len(thresholds))):
        inner = _exit(found[number].graph, number, thresholds[number], inner)
    _rename(inner, dict(zip((output.name for output in inner.output), (LOGITS, EXIT), strict=True)))
    inner.input.extend(found[0].graph.input)
    versions: dict[str, int] = {}
    for part in found:
        for entry in part.opset_import:
            versions[entry.domain] = max(entry.version, versions.get(entry.domain, 0))
    opsets = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
    return helper.make_model(inner, opset_imports=opsets, ir_version=found[0].ir_version)


def _end(part: onnx.GraphProto, number: int) -> onnx.GraphProto:
    """The last part, which every row leaves by."""
    graph = _local(part, number)
    scope = _Scope(number)
    scope.node("Shape", [scope(LOGITS)], "count", start=0, end=1)
    value = numpy_helper.from_array(np.array([number], np.int64))
    scope.node("ConstantOfShape", [scope("count")], EXIT, value=value)
    return _graph([*graph.node, *scope.nodes], scope, graph.initializer)


def _exit(part: onnx.GraphProto, number: int, threshold: float, inner: onnx.GraphProto) -> onnx.GraphProto:
    """A part, and `inner` for the rows that stay."""
    graph, scope = _local(part, number), _Scope(number)
    mask = MASK if number == 0 else scope("mask")
    scope.constant("threshold", np.array(threshold, np.float32))
    scope.node("Softmax", [scope(LOGITS)], "shares", axis=-1)
    scope.node("ReduceMax", [scope("shares"), scope.constant("last", np.array([-1]))], "sure", keepdims=0)
    scope.node("Less", [scope("sure"), scope("threshold")], "stays")
    scope.node("Cast", [scope("stays")], "numbers", to=TensorProto.INT32)
    scope.node("ReduceMax", [scope("numbers")], "most", keepdims=0)
    scope.node("Cast", [scope("most")], "any", to=TensorProto.BOOL)
    branches = {"then_branch": _rest(scope, mask, inner), "else_branch": _all_left(scope)}
    outputs = (f"all_{scope(LOGITS)}", f"all_{scope(EXIT)}")
    node = helper.make_node("If", [scope("any")], outputs, name=scope("if"), **branches)
    nodes, constants = [*graph.node, *scope.nodes, node], [*graph.initializer, *scope.constants]
    return helper.make_graph(nodes, scope("part"), [], _outputs(*outputs), constants)


def _rest(outer: "_Scope", mask: str, inner: onnx.GraphProto) -> onnx.GraphProto:
    """Packs the rows that stay, runs `inner` on them, and puts its answers where they belong."""
    scope, following = _Scope(outer.number, "rest_"), _Scope(outer.number + 1)
    scope.node("Compress", [outer("hidden"), outer("stays")], "rows", axis=0)
    scope.node("Compress", [mask, outer("stays")], "masks", axis=0)
    scope.node("ReduceMax", [scope("masks"), scope.constant("first", np.array([0]))], "filled", keepdims=0)
    scope.node("Cast", [scope("filled")], "columns", to=TensorProto.BOOL)
    before = [
        *scope.nodes,
        helper.make_node("Compress", [scope("rows"), scope("columns")], [following("before")], axis=1),
        helper.make_node("Compress", [scope("masks"), scope("columns")], [following("mask")], axis=1),
    ]
    scope.nodes = []
    logits, exits = (output.name for output in inner.output)
    scope.node("NonZero", [outer("stays")], "where")
    scope.node("Transpose", [scope("where")], "index", perm=[1, 0])
    scope.node("ScatterND", [outer(LOGITS), scope("index"), logits], LOGITS)
    _numbers(outer, scope)
    scope.node("ScatterND", [scope("own"), scope("index"), exits], EXIT)
    return _graph([*before, *inner.node, *scope.nodes], scope, [*inner.initializer, *scope.constants])


def _all_left(outer: "_Scope") -> onnx.GraphProto:
    """No row stays."""
    scope = _Scope(outer.number, "left_")
    scope.node("Identity", [outer(LOGITS)], LOGITS)
    _numbers(outer, scope)
    scope.node("Identity", [scope("own")], EXIT)
    return _graph(scope.nodes, scope, scope.constants)


def _numbers(outer: "_Scope", scope: "_Scope") -> None:
    """`own`: the number of this exit, for every row."""
    scope.node("Shape", [outer("stays")], "count")
    value = numpy_helper.from_array(np.array([outer.number], np.int64))
    scope.node("ConstantOfShape", [scope("count")], "own", value=value)


class _Scope:
    """Nodes, constants and the names of one part of the graph: no name may stand twice, in branches either."""

    def __init__(self, number: int, prefix: str = "") -> None:
        self.number = number
        self.prefix = f"{prefix}{number}/"
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def __call__(self, name: str) -> str:
        return self.prefix + name

    def node(self, operator: str, inputs: list[str], output: str, **attributes: object) -> None:
        self.nodes.append(helper.make_node(operator, inputs, [self(output)], name=self(output), **attributes))

    def constant(self, name: str, value: "np.generic | np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), self(name)))
        return self(name)


def _local(part: onnx.GraphProto, number: int) -> onnx.GraphProto:
    """A copy of a part, with names of its own for all but the inputs of the whole graph."""
    graph = onnx.GraphProto()
    graph.CopyFrom(part)
    scope = _Scope(number)
    own = [*(entry.name for entry in graph.initializer), *(name for node in graph.node for name in node.output if name)]
    names = {name: scope(name) for name in own}
    if number:
        names |= {"before": scope("before"), MASK: scope("mask")}
    _rename(graph, names)
    for place, node in enumerate(graph.node):
        node.name = scope(f"node {place}")
    return graph


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Gives tensors other names wherever they stand."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for entry in (*graph.input, *graph.output, *graph.initializer):
        entry.name = names.get(entry.name, entry.name)


def _outputs(logits: str, exits: str) -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info(logits, TensorProto.FLOAT, ["batch", None]),
        helper.make_tensor_value_info(exits, TensorProto.INT64, ["batch"]),
    ]


def _graph(nodes: Sequence[onnx.NodeProto], scope: _Scope, constants: Sequence[onnx.TensorProto]) -> onnx.GraphProto:
    return helper.make_graph(nodes, scope("graph"), [], _outputs(scope(LOGITS), scope(EXIT)), constants)
