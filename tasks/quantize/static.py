"""Static int8: as dynamic, with the range of every activation fixed beforehand on calibration rows."""

import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

from tasks.quantize.dynamic import dynamic, operators
from tasks.text.data import Batch

METHODS: dict[str, tuple[CalibrationMethod, dict[str, float]]] = {
    "minmax": (CalibrationMethod.MinMax, {}),
    # By default there are as many bins as levels, which leaves entropy one threshold to choose from: the largest.
    "entropy": (CalibrationMethod.Entropy, {"num_bins": 512, "num_quantized_bins": 128}),
    "percentile": (CalibrationMethod.Percentile, {"num_bins": 2048, "percentile": 99.999}),
}


def static(
    graph: onnx.ModelProto, batches: Sequence[Batch], calibration: str, kept: Collection[str] = ()
) -> onnx.ModelProto:
    """The dynamic graph with each `DynamicQuantizeLinear` replaced by a `QuantizeLinear` of a calibrated range.

    Args:
        graph: fused, float32.
        batches: calibration rows.
        calibration: `minmax`, `entropy` or `percentile`, as ONNX Runtime's calibrators do them.
        kept: names of operators that stay in float32.
    """
    return fixed(dynamic(graph, batches, calibration, kept), ranges(graph, inputs(graph), batches, calibration))


def inputs(graph: onnx.ModelProto) -> list[str]:
    """The tensors that int8 in `graph` needs ranges of: activations that are multiplied by a matrix of the model."""
    weighted = set(operators(graph))
    found = [node.input[0] for node in graph.graph.node if node.name in weighted and node.op_type != "Gather"]
    return list(dict.fromkeys(found))


def fixed(quantized: onnx.ModelProto, found: Mapping[str, tuple[float, float]]) -> onnx.ModelProto:
    """The dynamic graph `quantized`, changed in place to the ranges `found` of its activations."""
    for node in quantized.graph.node:
        if node.op_type != "DynamicQuantizeLinear":
            continue
        value, scale, zero = node.output
        low, high = found[node.input[0]]
        step = np.float32(max(high - low, 1e-8) / 255)
        point = np.uint8(np.clip(round(-low / float(step)), 0, 255))
        for name, number in ((scale, step), (zero, point)):
            quantized.graph.initializer.append(numpy_helper.from_array(np.array(number), name))
        node.CopyFrom(helper.make_node("QuantizeLinear", [node.input[0], scale, zero], [value], name=node.name))
    return quantized


def ranges(
    graph: onnx.ModelProto, names: Sequence[str], batches: Sequence[Batch], calibration: str
) -> dict[str, tuple[float, float]]:
    """Lowest and highest value to represent, with 0 inside, of each named tensor over the batches."""
    probed = onnx.ModelProto()
    probed.CopyFrom(graph)
    # The calibrator looks at tensors whose type is stated, so only these are.
    probed.graph.value_info.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "graph.onnx"
        onnx.save(probed, source)
        method, options = METHODS[calibration]
        augmented = str(Path(directory) / "augmented.onnx")
        calibrator = create_calibrator(
            source, None, augmented, calibrate_method=method, extra_options={"symmetric": False, **options}
        )
        for batch in batches:  # one by one: the histograms want arrays of one shape
            calibrator.collect_data(_Reader([batch]))
        data = calibrator.compute_data().data
    return {
        name: (min(0.0, float(np.min(data[name].lowest))), max(0.0, float(np.max(data[name].highest))))
        for name in names
    }


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: Sequence[Batch]) -> None:
        self.batches: Iterator[Batch] = iter(batches)

    def get_next(self) -> Batch | None:
        """The next batch, or None at the end."""
        return next(self.batches, None)
