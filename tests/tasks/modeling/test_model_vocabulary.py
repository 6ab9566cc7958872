"""Vocabulary rows: a model of fewer tokens says of those that stay what the whole one said."""

import copy

import pytest
import torch
from tiny import build, uneven
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    Qwen3Config,
    RobertaConfig,
    T5Config,
    T5ForConditionalGeneration,
    XLNetConfig,
)

from tasks.core.errors import UserError
from tasks.modeling.checkpoint import load, save
from tasks.modeling.shrink import shrink
from tasks.modeling.vocabulary import named_tokens, select_tokens

TOKENS = 70
IDS = {"vocab_size": TOKENS, "pad_token_id": 3, "bos_token_id": 65, "eos_token_id": [66, 67]}
ENCODER = {**IDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
ENCODER |= {"max_position_embeddings": 40, "eos_token_id": 66}
DECODER = {**IDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
DECODER |= {"intermediate_size": 48, "head_dim": 8}
SMALL = {**IDS, "eos_token_id": 66}
CONFIGS = {
    "bert": BertConfig(**ENCODER),
    "roberta": RobertaConfig(**ENCODER),
    "electra": ElectraConfig(**ENCODER, embedding_size=16),
    "distilbert": DistilBertConfig(**SMALL, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=40),
    "xlnet": XLNetConfig(**SMALL, d_model=32, n_layer=2, n_head=4, d_inner=48),
    "gpt2": GPT2Config(**SMALL, n_embd=32, n_layer=2, n_head=4, n_positions=40),
    "llama": LlamaConfig(**DECODER, tie_word_embeddings=False),
    "llama-tied": LlamaConfig(**DECODER, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**DECODER),
    "gemma2": Gemma2Config(**DECODER),
}
HEADS = {
    "classify": (AutoModelForSequenceClassification, sorted(CONFIGS)),
    "mask": (AutoModelForMaskedLM, ["bert", "roberta", "electra", "distilbert"]),
    "generate": (AutoModelForCausalLM, ["bert", "xlnet", "gpt2", "llama", "llama-tied", "qwen3", "gemma2"]),
}
CASES = [(head, name) for head, (_, names) in HEADS.items() for name in names]
KEPT = sorted({0, 1, 2, 3, 65, 66, 67} | set(range(5, TOKENS, 3)))


def random(head, name, dtype=torch.float32):
    torch.manual_seed(0)
    model = HEADS[head][0].from_config(copy.deepcopy(CONFIGS[name]), dtype=dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def same_text(model, smaller, kept):
    """The same random rows, with padding, through both."""
    generator = torch.Generator().manual_seed(1)
    row = torch.randint(0, len(kept), (5, 11), generator=generator)
    pad_old, pad_new = model.config.pad_token_id, smaller.config.pad_token_id
    row[row == pad_new] = 0
    row[2, -4:] = pad_new
    old = torch.tensor(kept)[row]
    assert ((old == pad_old) == (row == pad_new)).all()
    mask = (row != pad_new).long()
    with torch.no_grad():
        return model(old, attention_mask=mask).logits, smaller(row, attention_mask=mask).logits


def ties(model):
    groups = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), set()).add(name)
    return {frozenset(names) for names in groups.values()}


@pytest.mark.parametrize(("head", "name"), CASES)
def test_logits_of_what_stays(head, name):
    model = random(head, name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    smaller = select_tokens(model, KEPT)
    whole, less = same_text(model, smaller, KEPT)
    if head == "classify":
        assert torch.equal(whole, less)
    else:
        assert less.shape[-1] == len(KEPT)
        # a narrower matrix product may be blocked otherwise, so the last bit is not promised
        torch.testing.assert_close(less, whole[..., KEPT], rtol=1e-5, atol=1e-6)
    assert ties(smaller) == ties(model)
    assert smaller.get_input_embeddings().weight.shape[0] == len(KEPT) == smaller.config.vocab_size
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(("head", "name"), CASES)
def test_rows_are_those_of_the_kept_tokens(head, name):
    model = random(head, name)
    smaller = select_tokens(model, KEPT)
    assert torch.equal(smaller.get_input_embeddings().weight, model.get_input_embeddings().weight[KEPT])
    assert smaller.get_input_embeddings().padding_idx == (
        None
        if model.get_input_embeddings().padding_idx is None
        else KEPT.index(model.get_input_embeddings().padding_idx)
    )
    output = model.get_output_embeddings()
    if output is not None:
        assert torch.equal(smaller.get_output_embeddings().weight, output.weight[KEPT])
        if output.bias is not None:
            assert torch.equal(smaller.get_output_embeddings().bias, output.bias[KEPT])
    for key, value in model.state_dict().items():
        if TOKENS not in value.shape:
            assert torch.equal(smaller.state_dict()[key], value), key


def test_encoder_and_decoder_share_the_rows():
    torch.manual_seed(0)
    config = T5Config(**SMALL, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=3)
    model = T5ForConditionalGeneration(config).eval()
    smaller = select_tokens(model, KEPT)
    row = torch.arange(4, 14)[None]
    with torch.no_grad():
        whole = model(torch.tensor(KEPT)[row], decoder_input_ids=torch.tensor(KEPT)[row]).logits
        less = smaller(row, decoder_input_ids=row).logits
    torch.testing.assert_close(less, whole[..., KEPT], rtol=1e-5, atol=1e-6)
    assert smaller.config.decoder_start_token_id == KEPT.index(3)


def test_ids_in_both_configs_follow():
    model = random("generate", "llama")
    model.generation_config.eos_token_id = [66, 67]
    model.generation_config.suppress_tokens = [5, 66]
    model.generation_config.bad_words_ids = [[8, 11], [65]]
    smaller = select_tokens(model, KEPT)
    assert smaller.config.bos_token_id == smaller.generation_config.bos_token_id == KEPT.index(65)
    assert smaller.config.eos_token_id == smaller.generation_config.eos_token_id == [KEPT.index(66), KEPT.index(67)]
    assert smaller.generation_config.suppress_tokens == [KEPT.index(5), KEPT.index(66)]
    assert smaller.generation_config.bad_words_ids == [[KEPT.index(8), KEPT.index(11)], [KEPT.index(65)]]
    assert model.generation_config.suppress_tokens == [5, 66]


def test_greedy_text_is_the_same_where_it_keeps_to_kept_tokens():
    model = random("generate", "llama-tied")
    start = torch.tensor([[1, 5, 8]])
    text = model.generate(start, max_new_tokens=12, do_sample=False)[0].tolist()
    kept = sorted(named_tokens(model) | set(text) | {0})
    smaller = select_tokens(model, kept)
    again = smaller.generate(
        torch.tensor([[kept.index(1), kept.index(5), kept.index(8)]]), max_new_tokens=12, do_sample=False
    )
    assert [kept[token] for token in again[0].tolist()] == text


def test_the_padding_id_that_positions_count_from_does_not_move():
    assert set(range(4)) <= named_tokens(random("classify", "roberta"))
    assert named_tokens(random("classify", "bert")) == {3, 65, 66}


def test_half_precision_and_rotary_frequencies_stay():
    model = random("generate", "llama", torch.bfloat16)
    smaller = select_tokens(model, KEPT)
    assert smaller.dtype == torch.bfloat16
    assert torch.equal(smaller.model.rotary_emb.inv_freq, model.model.rotary_emb.inv_freq)
    assert smaller.model.rotary_emb.inv_freq.dtype == model.model.rotary_emb.inv_freq.dtype


def test_a_pruned_model(model, tmp_path):
    narrow = shrink(model, uneven(model))
    kept = sorted(named_tokens(narrow) | set(range(0, 60, 2)))
    smaller = select_tokens(narrow, kept)
    whole, less = same_text(narrow, smaller, kept)
    assert torch.equal(whole, less)
    save(smaller, tmp_path)
    whole, less = same_text(narrow, load(tmp_path), kept)
    assert torch.equal(whole, less)


def test_shapes_that_name_the_embedding_follow():
    """A model of pruned width states the true shape of its embedding."""
    model = build("bert")
    name = "bert.embeddings.word_embeddings"
    narrow = shrink(model, uneven(model))
    narrow.config.pruned["shapes"][name + ".weight"] = [60, 32]
    narrow.config.pruned["attributes"][name] = {"num_embeddings": 60}
    smaller = select_tokens(narrow, list(range(40)))
    assert smaller.config.pruned["shapes"][name + ".weight"] == [40, 32]
    assert smaller.config.pruned["attributes"][name] == {"num_embeddings": 40}
    assert narrow.config.pruned["shapes"][name + ".weight"] == [60, 32]
    assert smaller.bert.embeddings.word_embeddings.weight.shape == (40, 32)


@pytest.mark.parametrize("kept", [[], [3, 1, 65, 66], [0, 3, 65, 66, TOKENS], [-1, 3, 65, 66], [0, 65, 66]])
def test_refuses_impossible_choices(kept):
    with pytest.raises(ValueError, match=r"ascending|names the removed"):
        select_tokens(random("classify", "bert"), kept)


def test_refuses_what_cannot_follow():
    model = random("generate", "gpt2")
    model.generation_config.sequence_bias = {(5,): 1.0}
    with pytest.raises(UserError, match="sequence_bias"):
        select_tokens(model, KEPT)
    model = random("classify", "bert")
    model.config.vocab_size = 80
    with pytest.raises(UserError, match=r"one table of config\.vocab_size \(80\)"):
        select_tokens(model, KEPT)
