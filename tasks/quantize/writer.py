"""Nodes and weights of an ONNX graph, written one after another."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor

MICROSOFT, LINEAR = "com.microsoft", "FusedMatMul"
_CONTRIBUTED = {LINEAR, "GroupQueryAttention", "QuickGelu", "SkipSimplifiedLayerNormalization"}
Value = tuple[int, Sequence[int | str]]
"""Element type and shape."""
_OPSETS, _IR = {"": 21, MICROSOFT: 1}, 10


class Writer:
    """Tensors are called by their names; a weight that is written twice is there once."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}
        self._seen: dict[int, str] = {}

    def add(self, operator: str, *inputs: str, outputs: Sequence[str] = (), **attributes: Any) -> str:
        """Adds a node; the name of its first output, which is made up where none is given."""
        names = list(outputs) or [f"{operator}_{len(self.nodes)}"]
        domain = MICROSOFT if operator in _CONTRIBUTED else ""
        self.nodes.append(
            helper.make_node(operator, list(inputs), names, f"node_{len(self.nodes)}", domain=domain, **attributes)
        )
        return names[0]

    def weight(self, name: str, values: Tensor) -> str:
        """Adds a float32 tensor, unless the very same one is there; its name there."""
        key = values.data_ptr()
        if key not in self._seen:
            self._seen[key] = self.constant(name, values.detach().float().cpu().contiguous().numpy())
        return self._seen[key]

    def constant(self, name: str, values: Any) -> str:
        """Adds an array under a name of its own; whole numbers become int64."""
        array: NDArray[Any] = np.asarray(values)
        self.weights[name] = numpy_helper.from_array(array, name)
        return name

    def linear(self, name: str, weight: Tensor, bias: Tensor | None, value: str, outputs: Sequence[str] = ()) -> str:
        """`value` times the transpose of `weight`, shape (outputs, inputs), plus bias."""
        table = self.weight(f"{name}.weight", weight)
        if bias is None:
            return self.add(LINEAR, value, table, outputs=outputs, transB=1)
        product = self.add(LINEAR, value, table, transB=1)
        return self.add("Add", product, self.weight(f"{name}.bias", bias), outputs=outputs)

    def model(self, inputs: Mapping[str, Value], outputs: Mapping[str, Value]) -> onnx.ModelProto:
        """The graph; inputs and outputs by name."""
        given, made = (
            [helper.make_tensor_value_info(name, *facts) for name, facts in values.items()]
            for values in (inputs, outputs)
        )
        graph = helper.make_graph(self.nodes, "decoder", given, made, list(self.weights.values()))
        opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR, producer_name="secateur")
