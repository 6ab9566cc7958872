"""OPT (Zhang et al., 2022)."""

from tasks.families.anatomy import Attention, Family, Sublayer, heads, neurons

_ATTENTION = Attention("self_attn", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj")
OPT = Family(
    model_type="opt",
    layers="model.decoder.layers",
    depth="num_hidden_layers",
    kinds=(heads(_ATTENTION, "self_attn.out_proj", "num_heads"), neurons("fc1", down="fc2")),
    sublayers={
        "attention": Sublayer(("self_attn",), "self_attn.out_proj"),
        "ffn": Sublayer(("fc1", "fc2"), "fc2"),
    },
)
