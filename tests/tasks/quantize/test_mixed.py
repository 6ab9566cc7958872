"""Mixed precision: harms against graphs in which one operator alone is int8, and a bound that is kept."""

from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from tiny import TASK, build, rows

from tasks.modeling.inference import forward, open_model
from tasks.quantize.dynamic import dynamic, operators
from tasks.quantize.graph import fused_graph
from tasks.quantize.mixed import divergence, mixed
from tasks.quantize.static import fixed, inputs, ranges, static


@pytest.fixture(scope="module")
def model():
    """A small BERT, one matrix of which int8 cannot hold well: it has one weight that dwarfs the others of its row."""
    made = build("bert")
    with torch.no_grad():
        made.bert.encoder.layer[1].output.dense.weight[:, 0] = 30.0
    return made


@pytest.fixture(scope="module")
def graph(model):
    return fused_graph(model, pairs=False)


def int8(kept, graph):
    return dynamic(graph, [], "", kept)


def naive_divergence(first, second):
    p, q = (torch.from_numpy(z).double().log_softmax(-1) for z in (first, second))
    return (p.exp() * (p - q)).sum(-1).numpy()


def outputs(graph, split, directory):
    directory.mkdir(parents=True, exist_ok=True)
    onnx.save(graph, directory / "model.onnx")
    return open_model(directory, 1)(split.batch(range(len(split))))


def test_operators_have_the_names_of_their_modules(model, graph):
    modules = dict(model.named_modules())
    names = operators(graph)
    assert len(set(names)) == len(names) == 3 + 3 * 6 + 2
    for node in graph.graph.node:
        if node.name in names:
            wanted = torch.nn.Embedding if node.op_type == "Gather" else torch.nn.Linear
            assert isinstance(modules[node.name], wanted)


def test_what_is_kept_stays_in_float32(graph):
    names = operators(graph)
    assert not Counter(node.op_type for node in int8(names, graph).graph.node) & Counter(
        ["MatMulInteger", "DynamicQuantizeLinear", "DequantizeLinear"]
    )
    made = {node.name for node in int8(["classifier", "bert.encoder.layer.0.output.dense"], graph).graph.node}
    assert "bert.encoder.layer.0.output.dense" in made
    assert "bert.encoder.layer.0.intermediate.dense_quant" in made
    assert any(name.startswith("classifier") and not name.endswith("_quant") for name in made)


def test_divergence_is_the_formula():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 24, 3)).astype(np.float32)
    np.testing.assert_allclose(divergence(TASK, rows(), first, second), naive_divergence(first, second), atol=1e-6)


def test_the_most_harmful_stay_until_the_bound_holds(graph, tmp_path):
    split = rows(32)
    reference = outputs(graph, split, tmp_path / "fp32")
    everything = naive_divergence(reference, outputs(int8((), graph), split, tmp_path / "int8")).mean()
    limit = everything / 10
    found = mixed(graph, lambda kept: int8(kept, graph), split, TASK, limit)
    assert list(found.harms.values()) == sorted(found.harms.values(), reverse=True)
    assert found.kept == list(found.harms)[: len(found.kept)]
    assert 0 < len(found.kept) < len(found.harms)
    said = naive_divergence(reference, outputs(found.graph, split, tmp_path / "mixed")).mean()
    assert said == pytest.approx(found.divergence, rel=1e-3, abs=1e-7)
    assert said <= limit
    fewer = int8(set(found.kept[:-1]), graph)
    assert naive_divergence(reference, outputs(fewer, split, tmp_path / "fewer")).mean() > limit
    for name in list(found.harms)[:2]:
        alone = outputs(int8(set(found.harms) - {name}, graph), split, tmp_path / "alone")
        assert naive_divergence(reference, alone).mean() == pytest.approx(found.harms[name], rel=1e-3, abs=1e-7)
    record = found.record(limit, 32)
    assert [entry["int8"] for entry in record["operators"]].count(False) == record["kept"] == len(found.kept)


def test_what_cannot_be_kept_in_int8_is_fp32(graph, model, tmp_path):
    split = rows(8)
    found = mixed(graph, lambda kept: int8(kept, graph), split, TASK, 1e-12)
    assert set(found.kept) == set(operators(graph))
    said = outputs(found.graph, split, tmp_path / "mixed")
    np.testing.assert_allclose(said, forward(model)(split.batch(range(8))), atol=1e-4)


def test_static_ranges_go_with_what_is_int8(graph):
    """The ranges of all activations, measured once, are those of the static graph; what is kept has none."""
    split = rows(16)
    batches = [split.batch(range(8)), split.batch(range(8, 16))]
    found = ranges(graph, inputs(graph), batches, "minmax")
    assert fixed(int8((), graph), found) == static(graph, batches, "minmax")
    kept = ["bert.encoder.layer.0.output.dense"]
    made = fixed(int8(kept, graph), found)
    counts = Counter(node.op_type for node in made.graph.node)
    assert counts["DynamicQuantizeLinear"] == 0
    assert counts["MatMulInteger"] == 3 * 6 + 2 - 1
    assert counts["QuantizeLinear"] == len(found) - 1
