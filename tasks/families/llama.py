"""Llama (Touvron et al., 2023) and its kin: grouped-query attention, gated FFN, RMSNorm.

A KV group is a key-value head with the query heads that share it (Ainslie et al., 2023); `head` is a query head alone.
"""

from dataclasses import replace

from tasks.families.anatomy import ATTENTION, Family, Kind, Sublayer, head_dim, neurons
from tasks.families.decoder import Decoder

_QUERY = (("self_attn.q_proj.weight", 0), ("self_attn.q_proj.bias", 0))
_KEY = tuple((f"self_attn.{name}_proj.{part}", 0) for name in "kv" for part in ("weight", "bias"))
_JOIN = ("self_attn.o_proj.weight", 1)
_PER_GROUP = (("self_attn", "num_key_value_groups"),)
_DECODER = Decoder(
    embedding="model.embed_tokens",
    rotary="model.rotary_emb",
    norm="model.norm",
    attention="self_attn",
    attention_norm="input_layernorm",
    query="self_attn.q_proj",
    key="self_attn.k_proj",
    value="self_attn.v_proj",
    output="self_attn.o_proj",
    ffn="mlp",
    ffn_norm="post_attention_layernorm",
    gate="mlp.gate_proj",
    up="mlp.up_proj",
    down="mlp.down_proj",
)
LLAMA = Family(
    model_type="llama",
    layers="model.layers",
    depth="num_hidden_layers",
    kinds=(
        Kind("kv_group", (*_KEY, *_QUERY, _JOIN), head_dim, sublayer=ATTENTION),
        Kind("head", (*_QUERY, _JOIN), head_dim, _PER_GROUP, ATTENTION, parts_of="kv_group"),
        neurons("mlp.gate_proj", "mlp.up_proj", down="mlp.down_proj"),
    ),
    sublayers={
        "attention": Sublayer(("self_attn",), "self_attn.o_proj", "post_attention_layernorm"),
        "ffn": Sublayer(("mlp",), "mlp.down_proj", ""),
    },
    norms="rms",
    decoder=_DECODER,
)
MISTRAL = replace(LLAMA, model_type="mistral")
QWEN2 = replace(LLAMA, model_type="qwen2")
_HEAD_NORMS = ("self_attn.q_norm", "self_attn.k_norm")
QWEN3 = replace(LLAMA, model_type="qwen3", decoder=replace(_DECODER, head_norms=_HEAD_NORMS))
GEMMA = replace(LLAMA, model_type="gemma", norms="rms1", decoder=None)
_NORMED = {name: replace(sublayer, total=None) for name, sublayer in LLAMA.sublayers.items()}  # before it is added
GEMMA2, GEMMA3 = (replace(GEMMA, model_type=name, sublayers=_NORMED) for name in ("gemma2", "gemma3_text"))
