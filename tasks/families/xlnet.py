"""XLNet (Yang et al., 2019): attention as bare parameters of shape (width, heads, head size), joined by einsum."""

from collections.abc import Callable

from torch import Tensor, nn

from tasks.families.anatomy import ATTENTION, Family, Kind, Sublayer, neurons


def _watch(layer: nn.Module, name: str, consume: Callable[[Tensor], None]) -> Callable[[], None]:
    """Inputs of q, k, v: what enters the module; of r: the positions; of o: the joined heads."""
    attention = layer.get_submodule("rel_attn")
    if name != "rel_attn.o":
        place = 4 if name == "rel_attn.r" else 0
        return attention.register_forward_pre_hook(lambda _, args: consume(args[place])).remove
    after = attention.post_attention

    def watched(h: Tensor, joined: Tensor, *rest: bool) -> Tensor:
        consume(joined)
        return after(h, joined, *rest)  # type: ignore[operator, no-any-return]

    attention.post_attention = watched  # type: ignore[assignment]
    return lambda: delattr(attention, "post_attention")


_PARTS = ("q", "k", "v", "r")
_HEAD = (
    *((f"rel_attn.{name}", 1) for name in _PARTS),
    *((f"rel_attn.{name}", 0) for name in ("r_w_bias", "r_r_bias", "r_s_bias")),
    ("rel_attn.seg_embed", 1),
    ("rel_attn.o", 1),
)
XLNET = Family(
    model_type="xlnet",
    layers="transformer.layer",
    depth="n_layer",
    kinds=(
        Kind("head", _HEAD, attributes=(("rel_attn", "n_head"),), sublayer=ATTENTION),
        neurons("ff.layer_1", down="ff.layer_2"),
    ),
    width="d_model",
    sublayers={"ffn": Sublayer(("ff.layer_1", "ff.layer_2"), "ff.layer_2", "ff.layer_norm")},
    raw={**{f"rel_attn.{name}": (0,) for name in _PARTS}, "rel_attn.o": (1, 2)},
    watch=_watch,
    not_residual=("rel_attn.r:0",),
    time_major=True,
    products=4,
)
