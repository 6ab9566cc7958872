"""Invariant 2, in ONNX: the fused graph says what the model says, and int8 nearly so."""

from collections import Counter
from dataclasses import replace
from typing import get_args

import numpy as np
import onnx
import pytest
from tiny import build, uneven

from tasks.core.errors import UserError
from tasks.families import FAMILIES
from tasks.modeling.inference import forward, open_model
from tasks.modeling.shrink import shrink
from tasks.quantize import METHODS, write_graph
from tasks.quantize.graph import fused_graph
from tasks.recipe.quantizing import ACTIVATIONS_TOO, WEIGHT_ONLY, Quantize


@pytest.fixture(params=sorted(name for name, family in FAMILIES.items() if family.attention))
def pruned(request):
    model = build(request.param)
    return shrink(model, uneven(model))


def test_attention_that_is_gone(split, tmp_path):
    """Whole sublayers are left out, and a layer."""
    model = build("bert")
    smaller = shrink(shrink(model, uneven(model, whole=True)), {"layer": [[0], [0], []]})
    write_graph(fused_graph(smaller, pairs=False), "fp32", split, "minmax", tmp_path / "m")
    batch = split.batch(range(8))
    np.testing.assert_allclose(open_model(tmp_path / "m", 1)(batch), forward(smaller)(batch), atol=1e-4)
    operators = Counter(node.op_type for node in onnx.load(tmp_path / "m" / "model.onnx").graph.node)
    assert operators["MultiHeadAttention"] == 1


def test_other_architectures_are_refused():
    with pytest.raises(UserError, match=r"gpt2: graphs are made of bert, distilbert, electra, roberta"):
        fused_graph(build("gpt2"), pairs=False)


@pytest.mark.parametrize(("method", "tolerance"), [("fp32", 1e-4), ("dynamic", 0.35), ("static", 0.5)])
def test_says_what_the_model_says(pruned, split, tmp_path, method, tolerance):
    write_graph(fused_graph(pruned, pairs=False), method, split, "minmax", tmp_path / method)
    run, batch = open_model(tmp_path / method, 1), split.batch(range(len(split)))
    np.testing.assert_allclose(run(batch), forward(pruned)(batch), atol=tolerance)
    operators = Counter(node.op_type for node in onnx.load(tmp_path / method / "model.onnx").graph.node)
    assert operators["MultiHeadAttention"] == 3
    assert operators["SkipLayerNormalization"] == 0
    assert operators["DynamicQuantizeLinear"] == (0 if method != "dynamic" else operators["DynamicQuantizeLinear"])
    assert operators["MatMul"] == 0 or method == "fp32"


def test_heads_are_the_true_ones(pruned):
    graph = fused_graph(pruned, pairs=False)
    heads = [
        attribute.i
        for node in graph.graph.node
        if node.op_type == "MultiHeadAttention"
        for attribute in node.attribute
        if attribute.name == "num_heads"
    ]
    assert heads == [len(units) for units in pruned.config.pruned["kept"]["head"].values()]
    assert len(set(heads)) > 1


def test_same_bytes_twice_and_no_trace_of_the_machine(pruned):
    first, second = (fused_graph(pruned, pairs=False).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
    assert b"/home" not in first
    assert b".py" not in first


def test_model_is_left_as_it_was(pruned, split):
    batch = split.batch(range(4))
    before = forward(pruned)(batch)
    fused_graph(pruned, pairs=False)
    assert not pruned.training
    np.testing.assert_array_equal(forward(pruned)(batch), before)


def test_pairs_of_sentences(split, tmp_path):
    model = build("bert")
    paired = replace(split, token_type_ids=[(np.arange(len(ids)) > 3).astype(np.int64) for ids in split.input_ids])
    write_graph(fused_graph(model, pairs=True), "fp32", paired, "minmax", tmp_path / "m")
    batch = paired.batch(range(8))
    np.testing.assert_allclose(open_model(tmp_path / "m", 1)(batch), forward(model)(batch), atol=1e-4)


@pytest.mark.parametrize("calibration", ["minmax", "entropy", "percentile"])
def test_calibrations(split, tmp_path, calibration):
    model = build("bert")
    write_graph(fused_graph(model, pairs=False), "static", split, calibration, tmp_path / "m")
    batch = split.batch(range(len(split)))
    assert np.abs(open_model(tmp_path / "m", 1)(batch) - forward(model)(batch)).mean() < 0.5


def test_registry_is_what_recipes_may_say():
    assert set(METHODS) == {"fp32", *ACTIVATIONS_TOO, *WEIGHT_ONLY}
    allowed = get_args(get_args(Quantize.model_fields["methods"].annotation)[0])
    assert {*METHODS, "mixed", "exits"} == set(allowed)
