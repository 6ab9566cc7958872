"""GPT-2 (Radford et al., 2019): query, key and value in one `Conv1D`, whose weight is (inputs, outputs)."""

from tasks.families.anatomy import ATTENTION, Family, Kind, Sublayer, head_dim

GPT2 = Family(
    model_type="gpt2",
    layers="transformer.h",
    depth="n_layer",
    kinds=(
        Kind(
            "head",
            (("attn.c_attn.weight", 1, 3), ("attn.c_attn.bias", 0, 3), ("attn.c_proj.weight", 0)),
            head_dim,
            (("attn", "split_size"), ("attn", "num_heads")),
            ATTENTION,
        ),
        Kind("neuron", (("mlp.c_fc.weight", 1), ("mlp.c_fc.bias", 0), ("mlp.c_proj.weight", 0)), aligned=True),
    ),
    width="n_embd",
    sublayers={
        "attention": Sublayer(("attn",), "attn.c_proj", "ln_2"),
        "ffn": Sublayer(("mlp",), "mlp.c_proj", ""),
    },
)
