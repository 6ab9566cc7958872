"""DistilBERT (Sanh et al., 2019)."""

from tasks.families.anatomy import Attention, Family, Sublayer, heads, neurons

_ATTENTION = Attention("attention", "attention.q_lin", "attention.k_lin", "attention.v_lin", output="attention.out_lin")
DISTILBERT = Family(
    model_type="distilbert",
    layers="distilbert.transformer.layer",
    depth="n_layers",
    kinds=(heads(_ATTENTION, "attention.out_lin", "n_heads", "dim"), neurons("ffn.lin1", down="ffn.lin2")),
    width="dim",
    sublayers={
        "attention": Sublayer(("attention",), "attention.out_lin", "sa_layer_norm"),
        "ffn": Sublayer(("ffn.lin1", "ffn.lin2"), "ffn.lin2", "output_layer_norm"),
    },
    attention=_ATTENTION,
)
