"""BERT (Devlin et al., 2019), and RoBERTa, whose encoder is the same under another name."""

from dataclasses import replace

from tasks.families.anatomy import Attention, Family, heads, neurons

ATTENTION = Attention("attention.self", "attention.self.query", "attention.self.key", "attention.self.value")
BERT = Family(
    model_type="bert",
    layers="bert.encoder.layer",
    depth="num_hidden_layers",
    attention=ATTENTION,
    kinds=(
        heads(ATTENTION, "attention.output.dense", count="num_attention_heads", width="all_head_size"),
        neurons(up="intermediate.dense", down="output.dense"),
    ),
)
ROBERTA = replace(BERT, model_type="roberta", layers="roberta.encoder.layer")
