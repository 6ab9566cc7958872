"""Ranges of static int8 against naive ones, on values with long tails."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tasks.quantize.static import ranges, static

WEIGHT = np.random.default_rng(1).normal(size=(24, 16)).astype(np.float32) * np.logspace(-2, 1, 16, dtype=np.float32)


@pytest.fixture(scope="module")
def graph():
    """x, doubled to t, times a matrix whose columns are of very different sizes."""
    tensors = [numpy_helper.from_array(WEIGHT, "w"), numpy_helper.from_array(np.float32(2), "two")]
    nodes = [helper.make_node("Mul", ["x", "two"], ["t"], "m"), helper.make_node("MatMul", ["t", "w"], ["y"], "p")]
    shapes = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["r", s]) for n, s in (("x", 24), ("y", 16))]
    made = helper.make_graph(nodes, "g", shapes[:1], shapes[1:], tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture(scope="module")
def batches():
    rng = np.random.default_rng(0)
    return [{"x": (rng.normal(size=(2000, 24)) ** 3 + 1.0).astype(np.float32)} for _ in range(3)]


@pytest.fixture(scope="module")
def seen(batches):
    return np.concatenate([2 * batch["x"].ravel().astype(np.float64) for batch in batches])


def test_minmax(graph, batches, seen):
    assert ranges(graph, ["t"], batches, "minmax")["t"] == pytest.approx((seen.min(), seen.max()))


def test_percentile(graph, batches, seen):
    """99.999 % of the values lie between, to a bin of the histogram over the first batch."""
    low, high = ranges(graph, ["t"], batches, "percentile")["t"]
    width = 2 * np.abs(2 * batches[0]["x"]).max() / 2048
    expected = np.percentile(seen, [0.0005, 99.9995])
    between = np.diff(np.sort(seen))[[0, -1]]  # as far as two neighbours out there are apart
    assert abs(low - expected[0]) <= width + between[0]
    assert abs(high - expected[1]) <= width + between[1]
    assert seen.min() <= low
    assert high < seen.max()


def naive_divergence(values, bound, width):
    """KL in nats of the values, clipped at the bound, from what 128 equal levels tell of them."""
    half = round(bound / width)
    clipped = np.clip(values, -bound, bound)
    p, _ = np.histogram(clipped, bins=2 * half + 1, range=(-bound, bound))
    inside, _ = np.histogram(values, bins=2 * half + 1, range=(-bound, bound))
    per_level = len(inside) // 128
    level = np.minimum(np.arange(len(inside)) // per_level, 127)
    there = p > 0
    filled = np.bincount(level, there, 128)
    q = np.where(there, (np.bincount(level, inside, 128) / np.maximum(filled, 1))[level], 0.0)
    p, q = (np.maximum(x, 1e-4) / np.maximum(x, 1e-4).sum() for x in (p.astype(np.float64), q))
    return float((p * np.log(p / q)).sum())


def test_entropy(graph, batches):
    """Few other thresholds leave less divergence (bins lie otherwise here), and the largest value leaves far more."""
    values = 2 * batches[0]["x"].ravel().astype(np.float64)
    low, high = ranges(graph, ["t"], batches[:1], "entropy")["t"]
    largest = np.abs(values).max()
    width = 2 * largest / 512
    found = {i: naive_divergence(values, i * width, width) for i in range(64, 257)}
    chosen = naive_divergence(values, high, width)
    assert chosen <= np.quantile(list(found.values()), 0.2)
    assert chosen < 0.1 * found[256]
    assert high < 0.9 * largest
    assert low == pytest.approx(max(-high, values.min()), abs=2 * width)


@pytest.mark.parametrize("calibration", ["minmax", "entropy", "percentile"])
def test_static_is_the_naive_computation(graph, batches, calibration):
    """uint8 activations by the range, int8 weights by column, in float64."""
    low, high = ranges(graph, ["t"], batches, calibration)["t"]
    x = batches[0]["x"][:64]
    session = onnxruntime.InferenceSession(static(graph, batches, calibration).SerializeToString())
    found = session.run(None, {"x": x})[0]
    step = (high - low) / 255
    zero = round(-low / step)
    levels = np.clip(np.round(2 * x.astype(np.float64) / step) + zero, 0, 255)
    scales = np.abs(WEIGHT).max(0).astype(np.float64) / 127
    expected = (levels - zero) * step @ (np.round(WEIGHT / scales) * scales)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3 * np.abs(expected).max(0).min())
