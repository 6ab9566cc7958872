"""Weights in blocks: their formula, what ONNX Runtime makes of them, and what adapted rounding gains."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from test_decoder import causal, opened, texts
from tiny import uneven

from tasks.modeling.shrink import shrink
from tasks.quantize import METHODS
from tasks.quantize.blocks import fitted, rounded
from tasks.quantize.decoder import decoder_graph
from tasks.quantize.gptq import gptq, grams

BITS = {"int8_weights": 8, "int4_weights": 4}


def unpacked(values, bits, count):
    """Integers of the last axis, one by one."""
    out = np.zeros((*values.shape[:-1], count))
    for i in range(count):
        out[..., i] = values[..., i] if bits == 8 else (values[..., i // 2] >> (4 * (i % 2))) & 15
    return out


def dequantized(graph):
    """Every weight of a quantized graph by the operators' own formula, in float64."""
    parts = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    found = {}
    for node in graph.graph.node:
        if node.op_type == "MatMulNBits":
            facts = {a.name: a.i for a in node.attribute}
            q, scale, zero = (parts[name] for name in node.input[1:4])
            blocks, weight = -(-facts["K"] // facts["block_size"]), np.zeros((facts["N"], facts["K"]))
            integers = unpacked(q, facts["bits"], facts["block_size"])
            zeros = unpacked(zero, facts["bits"], blocks)
            for k in range(facts["K"]):
                block = k // facts["block_size"]
                step = integers[:, block, k % facts["block_size"]] - zeros[:, block]
                weight[:, k] = step * scale[:, block].astype(np.float64)
            found[node.input[1].removesuffix(".q")] = weight
    return found


def batches():
    ids, mask = texts()
    return [{"input_ids": ids.numpy(), "attention_mask": mask.numpy()}]


@pytest.fixture(params=["llama", "qwen2", "qwen3"])
def model(request):
    dense = causal(request.param)
    return shrink(dense, uneven(dense))


@torch.inference_mode()
@pytest.mark.parametrize("method", BITS)
def test_says_what_a_model_with_these_weights_says(model, method, tmp_path):
    """Of ONNX Runtime's operators, and of sizes that are no multiple of a block."""
    graph = METHODS[method](decoder_graph(model), batches(), "minmax")
    ids, mask = texts()
    before = model(input_ids=ids, attention_mask=mask).logits[mask.bool()]
    rough = opened(model, tmp_path / "int8", graph)(ids, mask).logits[mask.bool()]
    for node in graph.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = 1  # float32 products
    exact = opened(model, tmp_path / "fp32", graph)(ids, mask).logits[mask.bool()]
    parameters = dict(model.named_parameters())
    names = {"embedding": "model.embed_tokens.weight", "head": "lm_head.weight"}
    changed = dequantized(graph)
    assert len(changed) == sum(1 for name in parameters if "proj.weight" in name) + 1
    for name, weight in changed.items():
        stem = name.removesuffix(".weight")
        parameters[names.get(name, names.get(stem, f"model.{name}"))].copy_(torch.from_numpy(weight))
    if "head.weight" in changed:  # then the embedding is a table of its own
        parameters["model.embed_tokens.weight"].copy_(
            torch.from_numpy(rounded(parameters["model.embed_tokens.weight"].numpy(), 8).values())
        )
    expected = model(input_ids=ids, attention_mask=mask).logits[mask.bool()]
    torch.testing.assert_close(exact, expected, atol=1e-4, rtol=0)
    assert (rough - expected).std() < 0.05 * before.std()
    assert (expected - before).abs().max() > 1e-3
    assert (expected - before).std() < (0.02 if BITS[method] == 8 else 0.3) * before.std()


def test_int4_is_small_and_a_tied_table_is_there_once():
    graph = decoder_graph(causal("llama"))
    small = METHODS["int4_weights"](graph, batches(), "minmax")
    parts = {tensor.name: tensor for tensor in small.graph.initializer}
    assert parts["embedding.q"].dims == [60, 2, 32]
    assert not any(name.startswith("head") or name.endswith("proj.weight") for name in parts)
    down = parts["layers.0.mlp.down_proj.weight.q"]
    assert (down.data_type, list(down.dims)) == (onnx.TensorProto.UINT8, [36, 2, 16])


@pytest.mark.parametrize("bits", [4, 8])
def test_rounding_is_off_by_half_a_step_at_most(bits):
    weight = np.random.default_rng(0).normal(1, 1, (7, 50)).astype(np.float32)
    weight[:, 0] = 0
    found = rounded(weight, bits)
    step = np.repeat(found.scale, 32, axis=1)[:, :50]
    assert (np.abs(found.values() - weight) <= 1.01 * step).all()  # at the ends of a range whose zero was rounded
    assert (np.abs(found.values() - weight) <= 0.51 * step).mean() > 0.9
    np.testing.assert_array_equal(found.values()[:, 0], 0)


def test_a_fitted_grid_loses_no_more_than_the_whole_range():
    rng = np.random.default_rng(0)
    block, energy = rng.standard_t(3, (40, 32)), rng.uniform(0, 1, 32)

    def lost(scale, zero):
        steps = np.clip(np.round(block / scale[:, None]) + zero[:, None], 0, 15) - zero[:, None]
        return ((block - steps * scale[:, None]) ** 2 * energy).sum(-1)

    plain = rounded(block.astype(np.float32), 4)
    whole = lost(plain.scale[:, 0].astype(np.float64), plain.zero[:, 0].astype(np.float64))
    found = lost(*fitted(block, energy, 4))
    assert (found <= whole * 1.001).all()
    assert found.sum() < 0.95 * whole.sum()


def test_gptq_is_elimination_one_input_after_another():
    """Against the inverse of the Hessian updated after each input (Frantar et al., 2023, eq. 2 and 3), unblocked."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 72)) @ rng.normal(size=(72, 72))
    weight = rng.normal(size=(6, 72)).astype(np.float32)
    gram = (x.T @ x).astype(np.float32)
    found = gptq(weight, gram, 4)

    hessian = np.zeros((96, 96))
    hessian[:72, :72] = gram
    hessian += 0.01 * np.diag(gram).mean() * np.eye(96)
    inverse, left = np.linalg.inv(hessian), np.pad(weight.astype(np.float64), ((0, 0), (0, 24)))
    energy = np.diag(hessian)
    for column in range(96):
        if column % 32 == 0:
            scale, zero = fitted(left[:, column : column + 32], energy[column : column + 32], 4)
        q = np.clip(np.round(left[:, column] / scale) + zero, 0, 15)
        np.testing.assert_array_equal(found.integers.reshape(6, 96)[:, column], q)
        error = (left[:, column] - (q - zero) * scale) / inverse[column, column]
        left -= np.outer(error, inverse[column])
        inverse = inverse - np.outer(inverse[:, column], inverse[column]) / inverse[column, column]

    nearest = rounded(weight, 4)
    loss = [((x @ (blocks.values() - weight).T) ** 2).sum() for blocks in (found, nearest)]
    assert loss[0] < 0.6 * loss[1]


@torch.inference_mode()
def test_grams_are_of_what_goes_into_each_layer(model):
    """Padded tokens do not count."""
    seen = {}

    def watch(name, x, keep):
        seen[name] = seen.get(name, 0) + (x[0][0][keep].double().T @ x[0][0][keep].double()).numpy()

    ids, mask = texts()
    for row, keep in zip(ids, mask.bool(), strict=True):
        handles = [
            module.register_forward_pre_hook(lambda _, x, name=name, keep=keep: watch(name, x, keep[keep]))
            for name, module in model.model.named_modules()
            if isinstance(module, torch.nn.Linear)
        ]
        model(input_ids=row[keep][None])
        for handle in handles:
            handle.remove()
    found = grams(decoder_graph(model), batches(), without=("embedding", "head.weight"))
    assert found.keys() == {f"{name}.weight" for name in seen}
    for name, gram in seen.items():
        np.testing.assert_allclose(found[f"{name}.weight"], gram, rtol=1e-3, atol=1e-2)
