"""DistilBERT (Sanh et al., 2019)."""

from tasks.families.anatomy import Attention, Family, heads, neurons

ATTENTION = Attention("attention", "attention.q_lin", "attention.k_lin", "attention.v_lin", output="attention.out_lin")
DISTILBERT = Family(
    model_type="distilbert",
    layers="distilbert.transformer.layer",
    depth="n_layers",
    attention=ATTENTION,
    kinds=(
        heads(ATTENTION, "attention.out_lin", count="n_heads", width="dim"),
        neurons(up="ffn.lin1", down="ffn.lin2"),
    ),
)
