"""BERT (Devlin et al., 2019), and RoBERTa, whose encoder is the same under another name."""

from dataclasses import replace

from tasks.families.anatomy import Family, heads, neurons

BERT = Family(
    model_type="bert",
    layers="bert.encoder.layer",
    depth="num_hidden_layers",
    kinds=(
        heads(
            query="attention.self.query",
            key="attention.self.key",
            value="attention.self.value",
            output="attention.output.dense",
            counts=(("attention.self", "num_attention_heads"),),
            widths=(("attention.self", "all_head_size"),),
        ),
        neurons(up="intermediate.dense", down="output.dense"),
    ),
)
ROBERTA = replace(BERT, model_type="roberta", layers="roberta.encoder.layer")
