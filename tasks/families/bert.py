"""BERT (Devlin et al., 2019), and RoBERTa and ELECTRA, whose encoders are the same under other names."""

from dataclasses import replace

from tasks.families.anatomy import Attention, Family, Sublayer, heads, neurons

_ATTENTION = Attention("attention.self", "attention.self.query", "attention.self.key", "attention.self.value")
BERT = Family(
    model_type="bert",
    layers="bert.encoder.layer",
    depth="num_hidden_layers",
    kinds=(
        heads(_ATTENTION, "attention.output.dense", "num_attention_heads", "all_head_size"),
        neurons("intermediate.dense", down="output.dense"),
    ),
    sublayers={
        "attention": Sublayer(
            ("attention.self", "attention.output.dense"), "attention.output.dense", "attention.output.LayerNorm"
        ),
        "ffn": Sublayer(("intermediate", "output.dense"), "output.dense", "output.LayerNorm"),
    },
    attention=_ATTENTION,
)
ROBERTA = replace(BERT, model_type="roberta", layers="roberta.encoder.layer")
ELECTRA = replace(BERT, model_type="electra", layers="electra.encoder.layer")
