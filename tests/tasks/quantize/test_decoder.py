"""Graphs that generate say what transformers' models say, with and without a cache, and write the same."""

import copy

import numpy as np
import onnx
import pytest
import torch
from tiny import CONFIGS, build, uneven
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from tasks.core.errors import UserError
from tasks.modeling.checkpoint import save
from tasks.modeling.inference import forward, open_causal, open_model
from tasks.modeling.shrink import shrink
from tasks.quantize.decoder import decoder_graph
from tasks.text.data import Split
from tasks.text.generate import Sampling, continuations
from tasks.text.perplexity import likelihood

KINDS = ("llama", "mistral", "qwen2", "qwen3")


def causal(name, **changes):
    """A tiny model whose heads are as wide as ONNX Runtime's attention takes them."""
    before = CONFIGS[name]
    CONFIGS[name] = copy.deepcopy(before)
    try:
        CONFIGS[name].update({"head_dim": 16, **changes})
        return build(name, mapping=MODEL_FOR_CAUSAL_LM_MAPPING)
    finally:
        CONFIGS[name] = before


def opened(model, directory, graph=None):
    """The model's graph, as it is opened from a directory."""
    save(model, directory)
    (directory / "model.safetensors").unlink()
    onnx.save(graph or decoder_graph(model), directory / "model.onnx")
    return open_causal(directory, 1)


def texts():
    """Token ids (3, 12) and a mask: a whole row, one padded on the left, one on the right."""
    ids = torch.from_numpy(np.random.default_rng(0).integers(5, 60, (3, 12)))
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    mask[2, 9:] = 0
    return ids, mask


@pytest.fixture(params=[(name, cut) for name in KINDS for cut in ("dense", "uneven", "whole")], ids="-".join)
def model(request):
    """With `uneven` each layer has its own heads and neurons; with `whole` some have no attention or no FFN too."""
    name, cut = request.param
    dense = causal(name)
    return dense if cut == "dense" else shrink(dense, uneven(dense, whole=cut == "whole"))


@torch.inference_mode()
def test_says_what_the_model_says(model, tmp_path):
    ids, mask = texts()
    expected = model(input_ids=ids, attention_mask=mask).logits[mask.bool()]
    graph = opened(model, tmp_path / "m")
    torch.testing.assert_close(graph(ids, mask).logits[mask.bool()], expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(graph(ids[:1], logits_to_keep=2).logits, graph(ids[:1]).logits[:, -2:])


@torch.inference_mode()
def test_step_by_step_with_a_cache(model, tmp_path):
    """One token after another, past the room that a cache starts with; two rows, one of them padded."""
    graph = opened(model, tmp_path / "m")
    ids, mask = (tensor[:2] for tensor in texts())
    expected = model(input_ids=ids, attention_mask=mask).logits[mask.bool()]
    cache, found = None, []
    for end in range(1, 13):
        out = graph(ids[:, end - 1 : end], mask[:, :end], cache)
        cache = out.past_key_values
        cache.room = min(cache.room, cache.length)  # makes it grow every time
        found.append(out.logits)
    torch.testing.assert_close(torch.cat(found, 1)[mask.bool()], expected, atol=1e-4, rtol=0)


def test_writes_what_the_model_writes(model, tmp_path):
    graph = opened(model, tmp_path / "m")
    ids, mask = texts()
    prompts = [row[seen.bool()].numpy() for row, seen in zip(ids, mask, strict=True)]
    for sampling in (Sampling(9), Sampling(9, 0.8, 0.9, seed=3)):
        theirs, ours = (continuations(one, prompts, sampling, pad=1, eos=None) for one in (model, graph))
        np.testing.assert_array_equal(ours, theirs)


def test_scores_what_the_model_scores(tmp_path):
    dense = causal("llama")
    model = shrink(dense, uneven(dense))
    graph = opened(model, tmp_path / "m")
    rows = [row[seen.bool()].numpy() for row, seen in zip(*texts(), strict=True)]
    facts = {"max_length": 8, "stride": 3, "batch_size": 2}
    assert likelihood(graph, rows, **facts).perplexity == pytest.approx(likelihood(model, rows, **facts).perplexity)
    batch = Split(rows, None, np.ones(3, np.int64), 1).batch(range(3))
    np.testing.assert_allclose(open_model(tmp_path / "m", 1)(batch), forward(model)(batch), atol=1e-4)


def test_same_bytes_twice():
    model = causal("qwen2")
    first, second = (decoder_graph(model).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_a_tied_table_is_there_once():
    tied = {tensor.name: tensor.dims for tensor in decoder_graph(causal("llama")).graph.initializer}
    assert tied["embedding"] == [60, 36]
    assert "head.weight" not in tied
    assert "head.weight" in {tensor.name for tensor in decoder_graph(causal("mistral")).graph.initializer}


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("gpt2", {}, "gpt2: graphs that generate are made of llama, mistral, qwen2, qwen3"),
        ("gemma", {}, "gemma: graphs that generate are made of"),
        (
            "llama",
            {"head_dim": 8, "hidden_act": "gelu"},
            "heads of width 8, no multiple of 16; activation gelu, not silu",
        ),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "of type dynamic"),
    ],
)
def test_what_has_no_operators_is_refused(name, changes, says):
    with pytest.raises(UserError, match=says):
        decoder_graph(causal(name, **changes))
