"""DistilBERT (Sanh et al., 2019)."""

from tasks.families.anatomy import Family, heads, neurons

DISTILBERT = Family(
    model_type="distilbert",
    layers="distilbert.transformer.layer",
    depth="n_layers",
    kinds=(
        heads(
            query="attention.q_lin",
            key="attention.k_lin",
            value="attention.v_lin",
            output="attention.out_lin",
            counts=(("attention", "n_heads"),),
            widths=(("attention", "dim"),),
        ),
        neurons(up="ffn.lin1", down="ffn.lin2"),
    ),
)
