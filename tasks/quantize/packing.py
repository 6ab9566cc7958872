"""A fused graph that computes only what is read: no row of padding, and of the last layer the first token alone.

Everything between two attentions works on each token by itself. So hidden states (rows, length, width) are kept as
(tokens, width), the tokens being those that the mask shows, and are laid out by row for the attention only. What a
head reads of the last layer, mostly its first token, is then the only query there is.
"""

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import helper, numpy_helper

MASK, OPERATOR = "attention_mask", "MultiHeadAttention"
ALONE = {"BiasGelu", "FastGelu", "Gelu", "LayerNormalization", "MatMul", "QuickGelu", "Relu", "Sigmoid", "Tanh"}
"""Operators on one activation, and constants, that treat each token by itself."""
ADDED, MULTIPLIED = {"Add", "Sum"}, {"Div", "Mul", "Sub"}
PACKED, FIRST, BY_ROW = "packed", "first", "by_row"
"""All tokens that the mask shows, shape (tokens, width); the first of each row, (rows, width); all, laid out by row,
(rows, length, width)."""
PREFIX = "packing/"


def packed(graph: onnx.ModelProto) -> onnx.ModelProto:
    """`graph` so that only tokens go through it that the mask shows and something reads.

    What it says is the same for every mask of ones and zeros that shows the first token of each row; outputs of hidden
    tokens are those of another token. A graph without attention stays as it is.

    Args:
        graph: float32, of a model whose tokens meet in `MultiHeadAttention` alone, with the input `attention_mask`.
    """
    if not any(node.op_type == OPERATOR for node in graph.graph.node):
        return graph
    made = onnx.ModelProto()
    made.CopyFrom(graph)
    _Packing(made.graph).rewrite()
    return made


class _Packing:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.producer = {name: node for node in graph.node for name in node.output if name}
        self.hidden: set[str] = set()
        """Values that hold a state of each token, from the first norm on that attention reads."""
        self.whole: set[str] = set()
        """Values of which all shown tokens are needed."""
        self.made: dict[tuple[str, str], str] = {}
        self.nodes: list[onnx.NodeProto] = []

    def rewrite(self) -> None:
        """Replaces the graph's nodes."""
        nodes, outputs = list(self.graph.node), [entry.name for entry in self.graph.output]
        below = self.ancestors(name for node in nodes if node.op_type == OPERATOR for name in node.input)
        for node in nodes:
            first = node.op_type == OPERATOR or (node.op_type == "LayerNormalization" and node.output[0] in below)
            if first or (self.hidden.intersection(node.input) and self.by_token(node)):
                self.hidden.update(node.output)
        outside = [node for node in nodes if node.output[0] not in self.hidden]
        heads = [node for node in outside if self.hidden.intersection(node.input)]
        first = [node for node in heads if self.reads_first(node)]
        read = [name for node in heads if node not in first for name in node.input] + outputs
        keys = [name for node in nodes if node.op_type == OPERATOR for name in node.input[1:3]]
        self.whole = self.ancestors([*keys, *(name for name in read if name in self.hidden)])
        self.layout()
        for node in heads:
            if node in first:
                self.nodes.append(helper.make_node("Identity", [self.rows(node.input[0], FIRST)], node.output))
            else:
                node.input[:] = [self.rows(name, BY_ROW) if name in self.hidden else name for name in node.input]
        for name in self.hidden.intersection(outputs):
            self.nodes.append(helper.make_node("Identity", [self.rows(name, BY_ROW)], [name]))
        self.finish([*(node for node in outside if node not in first), *self.nodes], outputs)

    def by_token(self, node: onnx.NodeProto) -> bool:
        """Whether it treats each token by itself."""
        given = self.given(node)
        if node.op_type in ALONE:
            return given == [node.input[0]]
        if node.op_type in MULTIPLIED and len(given) > 1:
            return self.hidden.issuperset(given)  # not by a mask: what padding holds would count
        flat = all(len(self.constants[name].dims) <= 1 for name in node.input if name in self.constants)
        return flat and node.op_type in ADDED | MULTIPLIED

    def given(self, node: onnx.NodeProto) -> list[str]:
        """Its inputs that are no constants."""
        return [name for name in node.input if name and name not in self.constants]

    def reads_first(self, node: onnx.NodeProto) -> bool:
        """Whether it takes the first token of each row, and nothing else."""
        if node.op_type != "Gather" or node.input[1] not in self.constants:
            return False
        axis, index = node.attribute[0].i, numpy_helper.to_array(self.constants[node.input[1]])
        return bool(axis == 1 and index.shape == () and index == 0)

    def ancestors(self, names: Iterable[str]) -> set[str]:
        """These values and all that they are computed from."""
        found, left = set(), list(names)
        while left:
            name = left.pop()
            if name and name not in found:
                found.add(name)
                left += self.producer[name].input if name in self.producer else []
        return found

    def layout(self) -> None:
        """Where shown tokens are (`index`), which of them each place of a row holds (`place`, `start`)."""
        for name, value in {"zero": 0, "one": [1], "last": [-1]}.items():
            self.graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), PREFIX + name))
        self.add("NonZero", [MASK], "where")
        self.add("Transpose", [PREFIX + "where"], "index", perm=[1, 0])
        self.add("Reshape", [MASK, PREFIX + "last"], "shown")
        self.add("CumSum", [PREFIX + "shown", PREFIX + "zero"], "count")
        self.add("Sub", [PREFIX + "count", PREFIX + "one"], "number")
        self.add("Mul", [PREFIX + "number", PREFIX + "shown"], "numbers")
        self.add("Shape", [MASK], "shape")
        self.add("Reshape", [PREFIX + "numbers", PREFIX + "shape"], "rows")
        self.add("Unsqueeze", [PREFIX + "rows", PREFIX + "last"], "place")
        self.add("Gather", [PREFIX + "place", PREFIX + "zero"], "start", axis=1)

    def rows(self, name: str, kind: str) -> str:
        """A value of each token, for the tokens of a kind."""
        if (name, kind) not in self.made:
            self.made[name, kind] = self.computed(name, kind, f"{name}/{kind}")
        return self.made[name, kind]

    def computed(self, name: str, kind: str, output: str) -> str:
        node = self.producer.get(name)
        if kind == BY_ROW:
            return self.add("GatherND", [self.rows(name, PACKED), PREFIX + "place"], output)
        if node is None or not self.travels(node):
            # Not before this: embeddings are added up with positions, which are the same for all rows.
            if kind == FIRST:
                return self.add("Gather", [name, PREFIX + "zero"], output, axis=1)
            return self.add("GatherND", [name, PREFIX + "index"], output)
        if kind == FIRST and name in self.whole:
            return self.add("GatherND", [self.rows(name, PACKED), PREFIX + "start"], output)
        if node.op_type == OPERATOR:
            return self.attention(node, kind, output)
        return self.copy(
            node, [name if name in self.constants else self.rows(name, kind) for name in node.input], output
        )

    def travels(self, node: onnx.NodeProto) -> bool:
        """Whether tokens are chosen before it, not after it."""
        given = self.given(node)
        near = len(given) == 1 or self.hidden.intersection(given)
        return node.op_type == OPERATOR or bool(self.by_token(node) and near)

    def attention(self, node: onnx.NodeProto, kind: str, output: str) -> str:
        """One attention over the tokens by row; its queries are those of the kind."""
        query, *keys = node.input[:3]
        rest = [*(self.rows(name, BY_ROW) for name in keys), *node.input[3:]]
        if kind == PACKED:
            made = self.copy(node, [self.rows(query, BY_ROW), *rest], f"{output}/{BY_ROW}")
            return self.add("GatherND", [made, PREFIX + "index"], output)
        single = self.add("Unsqueeze", [self.rows(query, FIRST), PREFIX + "one"], f"{output}/query")
        made = self.copy(node, [single, *rest], f"{output}/{BY_ROW}")
        return self.add("Squeeze", [made, PREFIX + "one"], output)

    def add(self, operator: str, inputs: Iterable[str], output: str, **attributes: object) -> str:
        """A new node; the name of its output."""
        name = PREFIX + output
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def copy(self, node: onnx.NodeProto, inputs: Iterable[str], output: str) -> str:
        """The same operator on other inputs, under its own name."""
        made = onnx.NodeProto()
        made.CopyFrom(node)
        made.input[:], made.output[:] = inputs, [PREFIX + output]
        self.nodes.append(made)
        return PREFIX + output

    def finish(self, nodes: Iterable[onnx.NodeProto], outputs: Iterable[str]) -> None:
        """The nodes that are needed, each after those that it needs."""
        producer = {name: node for node in nodes for name in node.output if name}
        ordered: list[onnx.NodeProto] = []
        done: set[str] = set()
        left = [(name, False) for name in outputs]
        while left:
            name, ready = left.pop()
            node = producer.get(name)
            if node is None or name in done:
                continue
            if ready:
                ordered.append(node)
                done.update(node.output)
            else:
                left += [(name, True), *((given, False) for given in node.input)]
        used = {name for node in ordered for name in node.input}
        constants = [tensor for tensor in self.graph.initializer if tensor.name in used]
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(ordered)
        self.graph.initializer.extend(constants)
