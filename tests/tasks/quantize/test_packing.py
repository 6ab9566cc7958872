"""A packed graph says what the model says, and computes nothing that no head reads."""

import copy

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession
from tiny import CONFIGS, build, uneven
from transformers import MODEL_FOR_QUESTION_ANSWERING_MAPPING

from tasks.families import FAMILIES
from tasks.modeling.shrink import shrink
from tasks.quantize.graph import fused_graph
from tasks.quantize.packing import packed

SHOWN = np.array([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0], [1, 0, 1, 1, 0, 1, 0]])
NAMES = sorted(name for name, family in FAMILIES.items() if family.attention)


def batch(shown=SHOWN):
    ids = np.random.default_rng(0).integers(5, 40, shown.shape)
    return {"input_ids": ids, "attention_mask": shown.astype(np.int64)}


def said_by(model, given):
    with torch.no_grad():
        found = model(**{name: torch.from_numpy(array) for name, array in given.items()})
    return [value.numpy() for value in found.to_tuple()]


def rows_through(graph, given):
    """How many rows each product with a matrix of the model has, in the order of the graph."""
    matrices = {tensor.name for tensor in graph.graph.initializer if len(tensor.dims) == 2}
    products = [node.output[0] for node in graph.graph.node if node.op_type == "MatMul" and matrices & set(node.input)]
    graph.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in products)
    found = InferenceSession(graph.SerializeToString()).run(products, given)
    return [array.size // array.shape[-1] for array in found]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shown", [SHOWN, SHOWN[:1], SHOWN[1:2, :3]])
def test_a_classifier(name, shown):
    model, given = build(name), batch(shown)
    model = shrink(model, uneven(model))
    graph = fused_graph(model, pairs=False)
    found = InferenceSession(graph.SerializeToString()).run(None, given)
    np.testing.assert_allclose(found[0], said_by(model, given)[0], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_classifier_reads_the_first_token_of_its_last_layer(name):
    """Of the last layer only keys and values are of all 14 tokens that are shown; no product has the 21 places."""
    counts = rows_through(fused_graph(build(name), pairs=False), batch())
    layers = [counts[i : i + 6] for i in range(len(counts) - 18, len(counts), 6)]
    assert [sorted(layer) for layer in layers] == [[14] * 6, [14] * 6, [3] * 4 + [14] * 2]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_absent_costs_nothing(name):
    """No sum for it; tokens are packed before the first attention; of the last layer first tokens are read alone."""
    model, given = build(name), batch()
    smaller = shrink(model, {"ffn": [[0], [], []], "attention": [[], [0], [0]]})
    graph = fused_graph(smaller, pairs=False)
    states = {name for node in graph.graph.node for name in node.output if name.endswith(("/packed", "/first"))}
    assert sum(states.issuperset(node.input) for node in graph.graph.node if node.op_type in {"Add", "Sum"}) == 3
    found = InferenceSession(graph.SerializeToString()).run(None, given)
    np.testing.assert_allclose(found[0], said_by(smaller, given)[0], atol=1e-5)
    counts = rows_through(graph, given)
    assert sorted(counts[-10:]) == [3, 3, *[14] * 8]  # an FFN, an attention, and one with the first tokens' queries


@pytest.mark.parametrize("name", NAMES)
def test_a_head_that_reads_all_tokens(name):
    """Outputs of shown tokens are the model's; every product has these tokens and no others."""
    config = copy.deepcopy(CONFIGS[name])
    config.num_labels = 2
    model, given = MODEL_FOR_QUESTION_ANSWERING_MAPPING[type(config)](config).eval(), batch()
    graph = fused_graph(model, pairs=False)
    for found, meant in zip(InferenceSession(graph.SerializeToString()).run(None, given), said_by(model, given)[:2],
                            strict=True):  # fmt: skip
        np.testing.assert_allclose(found[SHOWN == 1], meant[SHOWN == 1], atol=1e-5)
    assert set(rows_through(graph, given)) == {14}


def test_padding_counts_for_nothing_behind_a_mask():
    """A head adds up what the mask shows: what stands for padding in a packed graph is another token's state."""
    weights = [
        numpy_helper.from_array(np.eye(4, dtype=np.float32), "eye"),
        numpy_helper.from_array(np.array([2]), "two"),
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "eye"], ["q"]),
        helper.make_node("Cast", ["attention_mask"], ["keys"], to=TensorProto.INT32),
        helper.make_node("MultiHeadAttention", ["q", "q", "q", "", "keys"], ["a"], domain="com.microsoft", num_heads=2),
        helper.make_node("MatMul", ["a", "eye"], ["h"]),
        helper.make_node("Cast", ["attention_mask"], ["shown"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["shown", "two"], ["column"]),
        helper.make_node("Mul", ["h", "column"], ["product"]),
        helper.make_node("ReduceSum", ["product"], ["y"], keepdims=0),
    ]
    entry = helper.make_tensor_value_info
    inputs = [entry("x", TensorProto.FLOAT, ["b", "l", 4]), entry("attention_mask", TensorProto.INT64, ["b", "l"])]
    made = helper.make_graph(nodes, "g", inputs, [entry("y", TensorProto.FLOAT, None)], weights)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_model(made, opset_imports=opsets, ir_version=10)
    given = {"x": np.random.default_rng(0).normal(size=(3, 7, 4)).astype(np.float32), "attention_mask": SHOWN}
    plain, ours = (InferenceSession(g.SerializeToString()).run(None, given)[0] for g in (graph, packed(graph)))
    np.testing.assert_allclose(ours, plain, rtol=1e-5)


def test_a_graph_without_attention_stays():
    made = onnx.ModelProto()
    assert packed(made) is made
