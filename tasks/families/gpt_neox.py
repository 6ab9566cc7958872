"""GPT-NeoX (Black et al., 2022) and Pythia: query, key and value of each head side by side in one `nn.Linear`."""

from tasks.families.anatomy import ATTENTION, Family, Kind, Sublayer, head_dim, neurons

_FUSED = tuple((f"attention.query_key_value.{part}", 0) for part in ("weight", "bias"))
GPT_NEOX = Family(
    model_type="gpt_neox",
    layers="gpt_neox.layers",
    depth="num_hidden_layers",
    kinds=(
        Kind("head", (*_FUSED, ("attention.dense.weight", 1)), lambda config: 3 * head_dim(config), sublayer=ATTENTION),
        neurons("mlp.dense_h_to_4h", down="mlp.dense_4h_to_h"),
    ),
    sublayers={
        "attention": Sublayer(("attention",), "attention.dense"),
        "ffn": Sublayer(("mlp",), "mlp.dense_4h_to_h", ""),
    },
)
