"""Small random models of every family, and small prepared data."""

import copy

import numpy as np
import torch
from transformers import (
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
    XLNetConfig,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from tasks.families import family_of
from tasks.families.anatomy import WHOLE
from tasks.text.classification import Classification
from tasks.text.data import Split

VOCABULARY = 60
TASK = Classification(("a", "b", "c"))
BASE = {"vocab_size": VOCABULARY, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "num_labels": 3}
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}
LLAMA = {
    "vocab_size": VOCABULARY,
    "hidden_size": 36,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "head_dim": 8,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "pad_token_id": 1,
    "num_labels": 3,
}
CONFIGS = {
    "bert": BertConfig(**BASE, **SIZES),
    "roberta": RobertaConfig(**BASE, **SIZES),
    "electra": ElectraConfig(**BASE, **SIZES, embedding_size=20),
    "distilbert": DistilBertConfig(
        vocab_size=VOCABULARY, dim=32, n_layers=3, n_heads=4, hidden_dim=48, max_position_embeddings=40,
        dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0, num_labels=3,
    ),
    "xlnet": XLNetConfig(
        vocab_size=VOCABULARY, d_model=32, n_layer=3, n_head=4, d_inner=48, dropout=0.0, summary_last_dropout=0.0,
        pad_token_id=1, num_labels=3,
    ),
    "gpt2": GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=3, n_head=4, n_inner=48, n_positions=40, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, pad_token_id=1, bos_token_id=2, eos_token_id=2, num_labels=3,
    ),
    "gpt_neox": GPTNeoXConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=40, pad_token_id=1, num_labels=3, classifier_dropout=0.0,
    ),
    "opt": OPTConfig(
        vocab_size=VOCABULARY, hidden_size=32, word_embed_proj_dim=32, num_hidden_layers=3, num_attention_heads=4,
        ffn_dim=48, max_position_embeddings=40, dropout=0.0, pad_token_id=1, num_labels=3,
    ),
    "llama": LlamaConfig(**LLAMA, tie_word_embeddings=True),
    "mistral": MistralConfig(**LLAMA, sliding_window=8),
    "qwen2": Qwen2Config(**{k: v for k, v in LLAMA.items() if k != "head_dim"} | {"hidden_size": 60}),
    "qwen3": Qwen3Config(**LLAMA),
    "gemma": GemmaConfig(**LLAMA),
    "gemma2": Gemma2Config(**LLAMA, sliding_window=8),
    "gemma3_text": Gemma3TextConfig(
        **LLAMA, sliding_window=8, layer_types=["sliding_attention", "full_attention", "sliding_attention"]
    ),
}  # fmt: skip
DECODERS = sorted(set(CONFIGS) - {"bert", "roberta", "electra", "distilbert", "xlnet"})


def build(name, seed=0, mapping=MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING):
    """A random model whose units matter: wider weights than the usual start, and random biases."""
    torch.manual_seed(seed)
    config = copy.deepcopy(CONFIGS[name])
    model = mapping[type(config)](config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model.eval()


def uneven(model, whole=False):
    """Units to keep, different in number in every layer; with `whole` some sublayers go too."""
    kept = {}
    for group in family_of(model.config.model_type).groups(model):
        random = torch.Generator().manual_seed(group.layer)
        if group.kind in WHOLE:
            units = [] if whole and (group.kind, group.layer) in {("attention", 1), ("ffn", 2)} else [0]
        elif group.kind == "width":
            units = list(range(group.count))
        else:
            size = group.count // group.balance
            count = max(1, size - 1 - group.layer * size // 4)
            parts = range(group.balance)
            units = [p * size + i for p in parts for i in torch.randperm(size, generator=random).tolist()[:count]]
        kept.setdefault(group.kind, []).append(sorted(units))
    return kept


def rows(count=24, seed=0, classes=3):
    """Random token rows of different lengths."""
    rng = np.random.default_rng(seed)
    ids = [rng.integers(5, VOCABULARY, rng.integers(4, 16)).astype(np.int64) for _ in range(count)]
    return Split(ids, None, rng.integers(0, classes, count).astype(np.int64), 1)
