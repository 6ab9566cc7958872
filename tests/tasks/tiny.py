"""Small random models of every family, and small prepared data."""

import numpy as np
import torch
from transformers import BertConfig, DistilBertConfig, RobertaConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from tasks.families import family_of
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
CONFIGS = {
    "bert": BertConfig(**BASE, **SIZES),
    "roberta": RobertaConfig(**BASE, **SIZES),
    "distilbert": DistilBertConfig(
        vocab_size=VOCABULARY, dim=32, n_layers=3, n_heads=4, hidden_dim=48, max_position_embeddings=40,
        dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0, num_labels=3,
    ),
}  # fmt: skip


def build(name, seed=0):
    """A random model whose units matter: wider weights than the usual start, and random biases."""
    torch.manual_seed(seed)
    model = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(CONFIGS[name])](CONFIGS[name])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model.eval()


def uneven(model):
    """Units to keep, different in number in every layer."""
    kept = {}
    for group in family_of(model.config.model_type).groups(model):
        count = max(1, group.count - 1 - group.layer * group.count // 4)
        order = torch.randperm(group.count, generator=torch.Generator().manual_seed(group.layer)).tolist()
        kept.setdefault(group.kind, []).append(sorted(order[:count]))
    return kept


def rows(count=24, seed=0, classes=3):
    """Random token rows of different lengths."""
    rng = np.random.default_rng(seed)
    ids = [rng.integers(5, VOCABULARY, rng.integers(4, 16)).astype(np.int64) for _ in range(count)]
    return Split(ids, None, rng.integers(0, classes, count).astype(np.int64), 1)
