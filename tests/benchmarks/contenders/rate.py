"""This machine's own int8 rate: ONNX Runtime's MatMulInteger by itself, at the dense model's shapes."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH, INNER, REPEATS = 384, 1536, 30
SHAPES = {(WIDTH, WIDTH): 4, (WIDTH, INNER): 1, (INNER, WIDTH): 1}
"""(inputs, outputs) of the products of one layer, and how many of each there are."""


@dataclass
class Rate:
    """The three products on `rows` rows of uint8 by int8."""

    rows: int
    threads: int

    def __post_init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        generator = np.random.default_rng(0)
        self.runs: list[tuple[Any, np.ndarray, int]] = []
        for (inputs, outputs), count in SHAPES.items():
            graph = product(inputs, outputs, generator.integers(-127, 128, (inputs, outputs), np.int8))
            session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
            self.runs.append((session, generator.integers(0, 256, (self.rows, inputs), np.uint8), count))

    def measure(self) -> float:
        """Operations a second (two for each multiply and add) of a layer's products, each at its median time."""
        seconds = operations = 0.0
        for session, rows, count in self.runs:
            times = []
            for _ in range(REPEATS):
                start = time.perf_counter()
                session.run(None, {"a": rows})
                times.append(time.perf_counter() - start)
            seconds += count * float(np.median(times[REPEATS // 3 :]))
            operations += count * 2 * rows.size * session.get_outputs()[0].shape[-1]
        return operations / seconds


def product(inputs: int, outputs: int, weight: np.ndarray) -> bytes:
    """A graph of one MatMulInteger, uint8 rows "a" by an int8 weight."""
    zero = numpy_helper.from_array(np.array(128, np.uint8), "zero")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b", "zero"], ["c"])], "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, ["rows", inputs])],
        [helper.make_tensor_value_info("c", TensorProto.INT32, ["rows", outputs])],
        [numpy_helper.from_array(weight, "b"), zero],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
