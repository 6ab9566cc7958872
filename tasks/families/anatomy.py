"""What an architecture is made of: which slices of which tensors form a unit.

Importance, pruning, masking, FLOPs and reports read this and nothing else of an architecture, so a new family is
one declaration (see `tasks/families/bert.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Kept = Mapping[str, Sequence[Sequence[int]]]
"""Units kept, by kind, then by layer: indices into the units the model has."""


@dataclass(frozen=True)
class Cut:
    """A unit holds `block` consecutive entries of `tensor` along `axis`."""

    tensor: str
    axis: int
    block: int

    def index(self, units: Sequence[int]) -> Tensor:
        """Positions along `axis` of the given units, int64, shape (len(units) * block,)."""
        return (torch.tensor(units, dtype=torch.int64).unsqueeze(1) * self.block + torch.arange(self.block)).flatten()


@dataclass(frozen=True)
class Group:
    """The units of one kind in one layer, and everything that shrinks with them."""

    layer: int
    kind: str
    count: int
    cuts: tuple[Cut, ...]
    attributes: tuple[tuple[str, str, int], ...]
    """(module, attribute, size per unit): plain numbers on modules that follow the number of units."""


@dataclass(frozen=True)
class Kind:
    """How one kind of unit lies in a layer; names are relative to the layer."""

    name: str
    cuts: tuple[tuple[str, int], ...]
    """(parameter, axis) of every tensor a unit has a part in; the first one tells how many units there are."""
    block: Callable[[Any], int]
    """Entries per unit along those axes, from the model's config."""
    counts: tuple[tuple[str, str], ...] = ()
    """(module, attribute) that holds the number of units."""
    widths: tuple[tuple[str, str], ...] = ()
    """(module, attribute) that holds the number of units times `block`."""
    aligned: bool = False
    """Whether a layer keeps a multiple of `prune.align` units, so that matrices have sizes that hardware likes."""


@dataclass(frozen=True)
class Attention:
    """Where self-attention lies in a layer, for fused graphs; names are relative to the layer."""

    module: str
    """Its forward takes hidden states first and returns (context, weights)."""
    query: str
    key: str
    value: str
    output: str | None = None
    """The projection that the module applies itself to the joined heads, if it does."""


@dataclass(frozen=True)
class Family:
    """One architecture family."""

    model_type: str
    layers: str
    """Dotted name of the list of layers in every model with a head on top."""
    depth: str
    """The config key that holds the number of layers."""
    attention: Attention
    kinds: tuple[Kind, ...]

    def groups(self, model: torch.nn.Module) -> list[Group]:
        """Every group of units `model` has, read off its true tensors, layer by layer.

        Raises:
            LookupError: the model has no such layers or tensors (the declaration does not match it).
        """
        parameters = dict(model.named_parameters())
        found = []
        for layer in range(len(model.get_submodule(self.layers))):  # type: ignore[arg-type]
            prefix = f"{self.layers}.{layer}."
            for kind in self.kinds:
                block = kind.block(model.config)
                missing = [name for name, _ in kind.cuts if prefix + name not in parameters]
                if missing:
                    raise LookupError(f"{self.model_type}: layer {layer} has no {', '.join(missing)}")
                first, axis = kind.cuts[0]
                attributes = [(prefix + m, a, 1) for m, a in kind.counts]
                attributes += [(prefix + m, a, block) for m, a in kind.widths]
                found.append(
                    Group(
                        layer=layer,
                        kind=kind.name,
                        count=parameters[prefix + first].shape[axis] // block,
                        cuts=tuple(Cut(prefix + name, axis, block) for name, axis in kind.cuts),
                        attributes=tuple(attributes),
                    )
                )
        return found


def head_dim(config: Any) -> int:
    """Width of one attention head, from the sizes the architecture was built with."""
    return int(config.hidden_size // config.num_attention_heads)


def heads(attention: Attention, output: str, count: str, width: str) -> Kind:
    """Attention heads of three `nn.Linear` projections and the one, `output`, that joins them.

    Args:
        attention: names of the projections.
        output: name of the joining projection.
        count: attribute of the attention module that holds the number of heads.
        width: attribute of the attention module that holds the width of all heads together.
    """
    projections = (attention.query, attention.key, attention.value)
    rows = [(f"{name}.{part}", 0) for name in projections for part in ("weight", "bias")]
    return Kind(
        "head",
        (*rows, (f"{output}.weight", 1)),
        block=head_dim,
        counts=((attention.module, count),),
        widths=((attention.module, width),),
    )


def neurons(up: str, down: str) -> Kind:
    """FFN neurons between two `nn.Linear`."""
    cuts = ((f"{up}.weight", 0), (f"{up}.bias", 0), (f"{down}.weight", 1))
    return Kind("neuron", cuts, block=lambda _: 1, aligned=True)
