"""What an architecture is made of: which slices of which tensors form a unit.

Importance, pruning, masking, FLOPs and reports read this and nothing else of an architecture, so a new family is
one declaration (see `tasks/families/bert.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tasks.families.decoder import Decoder

Kept = Mapping[str, Sequence[Sequence[int]]]
"""Units kept, by kind, then by group in the order of `Family.groups`: indices into the units the model has."""
ATTENTION, FFN, LAYER, WIDTH = "attention", "ffn", "layer", "width"
WHOLE = (ATTENTION, FFN, LAYER)
"""Kinds whose groups are a single unit, which may go altogether."""


@dataclass(frozen=True)
class Cut:
    """A unit holds `block` consecutive entries of `tensor` along `axis`, in each of `parts` equal stretches of it."""

    tensor: str
    axis: int
    block: int
    parts: int = 1
    count: int = 0
    """Units along the axis; needed where there are several parts."""

    def index(self, units: Sequence[int]) -> Tensor:
        """Positions along `axis` of the given units, int64, shape (parts * len(units) * block,), part by part."""
        one = (torch.tensor(units, dtype=torch.int64).unsqueeze(1) * self.block + torch.arange(self.block)).flatten()
        starts = torch.arange(self.parts).unsqueeze(1) * self.count * self.block
        return (starts + one).flatten()

    def per_unit(self, values: Tensor) -> Tensor:
        """`values`, of the shape of the tensor, with the entries of each unit in a row: (units, entries per unit)."""
        rows = values.movedim(self.axis, 0)
        units = rows.shape[0] // (self.block * self.parts)
        return rows.reshape(self.parts, units, -1).transpose(0, 1).reshape(units, -1)


@dataclass(frozen=True)
class Group:
    """The units of one kind in one layer, and everything that shrinks with them."""

    layer: int
    """The one it lies in; 0 for what runs through all of them (the residual width)."""
    kind: str
    count: int
    cuts: tuple[Cut, ...]
    """The last ones hold what the units give to the rest of the model: it is linear in them."""
    attributes: tuple[tuple[str, str], ...] = ()
    """(module, attribute): whole numbers on modules that are in proportion to the number of units."""
    balance: int = 1
    """The units come in so many equal parts (query heads in KV groups); the same number of each must stay."""
    modules: tuple[str, ...] = ()
    """What goes when the only unit goes."""
    aligned: bool = False
    """See `Kind.aligned`."""

    @property
    def name(self) -> str:
        """Kind and layer: head.0."""
        return f"{self.kind}.{self.layer}"


@dataclass(frozen=True)
class Kind:
    """How one kind of unit lies in a layer; names are relative to the layer."""

    name: str
    cuts: tuple[tuple[str, int] | tuple[str, int, int], ...]
    """(parameter, axis) or (parameter, axis, parts) of every tensor a unit has a part in, the one that joins the units
    last. A parameter that the model was built without (a bias) is passed over, unless it is the first or the last.
    """
    size: Callable[[Any], int] = lambda _: 1
    """Entries per unit along the axis of the first cut, from the model's config."""
    attributes: tuple[tuple[str, str], ...] = ()
    """(module, attribute) that hold numbers in proportion to the number of units."""
    sublayer: str = FFN
    """Where it lies: it goes with its sublayer."""
    parts_of: str | None = None
    """The kind whose units each hold an equal number of these."""
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
class Sublayer:
    """Attention or FFN as a whole; names are relative to the layer."""

    modules: tuple[str, ...]
    """Modules that are left out together; each takes hidden states and gives what is added to them, or leads to it."""
    output: str
    """The projection whose result is added to the residual; without it the sublayer adds nothing."""
    total: str | None = None
    """The module whose input is the residual with that result added, and nothing that depends on it; empty: what the
    layer gives; None: there is none."""


@dataclass(frozen=True)
class Family:
    """One architecture family."""

    model_type: str
    layers: str
    """Dotted name of the list of layers in every model with a head on top."""
    depth: str
    """The config key that holds the number of layers."""
    kinds: tuple[Kind, ...]
    width: str = "hidden_size"
    """The config key that holds the width of the residual."""
    sublayers: Mapping[str, Sublayer] = field(default_factory=dict)
    """What can be left out of a layer: `attention`, `ffn`."""
    norms: str = "layer"
    """How the residual is normalised: `layer` (LayerNorm), `rms` (scaled by w), `rms1` (scaled by 1 + w)."""
    attention: Attention | None = None
    """None: its graphs are not fused."""
    decoder: Decoder | None = None
    """None: it has no graphs that generate."""
    raw: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Matrices of a layer that are bare parameters, by name relative to the layer: the axes that are its inputs."""
    watch: Callable[[nn.Module, str, Callable[[Tensor], None]], Callable[[], None]] | None = None
    """(layer, raw parameter, consume): calls `consume` with each input of that matrix, (…, *input axes), until the
    function that it returns is called."""
    not_residual: tuple[str, ...] = ()
    """Parameters of a layer with an axis as long as the residual is wide that is something else: (name:axis)."""
    time_major: bool = False
    """Whether hidden states are (length, rows, width) inside, not (rows, length, width)."""
    products: int = 2
    """Matrix products of attention per head, each length^2 * head size multiplications."""

    def kind(self, name: str) -> Kind:
        """The declaration of a kind that lies in layers.

        Raises:
            KeyError: there is none of that name.
        """
        return {kind.name: kind for kind in self.kinds}[name]

    def groups(self, model: nn.Module) -> list[Group]:
        """Every group of units `model` has, read off its true tensors: units in layers, sublayers, layers, width.

        Raises:
            LookupError: the model has no such layers or tensors (the declaration does not match it).
        """
        parameters = dict(model.named_parameters())
        found = []
        layers: Any = model.get_submodule(self.layers)
        for layer, module in enumerate(layers):
            prefix = f"{self.layers}.{layer}."
            there = {name: _present(module, part) for name, part in self.sublayers.items()}
            counts: dict[str, int] = {}
            for kind in self.kinds:
                if there.get(kind.sublayer, True):
                    group = self._units(kind, layer, prefix, parameters, model.config, counts)
                    counts[kind.name] = group.count
                    found.append(group)
            outputs = {name: f"{prefix}{part.output}" for name, part in self.sublayers.items() if there[name]}
            for name, output in outputs.items():
                gone = tuple(prefix + path for path in self.sublayers[name].modules)
                found.append(Group(layer, name, 1, _everything(output, parameters), modules=gone))
            cuts = [cut for output in outputs.values() for cut in _everything(output, parameters)]
            found.append(Group(layer, LAYER, 1, tuple(cuts)))
        return [*found, self._residual(found, parameters, model)]

    def _units(
        self, kind: Kind, layer: int, prefix: str, parameters: Mapping[str, Tensor], config: Any, counts: dict[str, int]
    ) -> Group:
        entries = [(prefix + name, axis, parts[0] if parts else 1) for name, axis, *parts in kind.cuts]
        missing = [name for name, *_ in (entries[0], entries[-1]) if name not in parameters]
        if missing:
            raise LookupError(f"{self.model_type}: layer {layer} has no {', '.join(missing)}")
        first, axis, parts = entries[0]
        count = parameters[first].shape[axis] // (kind.size(config) * parts)
        cuts = [
            Cut(name, axis, parameters[name].shape[axis] // (parts * count), parts, count)
            for name, axis, parts in entries
            if name in parameters
        ]
        attributes = tuple((prefix + module, attribute) for module, attribute in kind.attributes)
        balance = counts[kind.parts_of] if kind.parts_of else 1
        return Group(layer, kind.name, count, tuple(cuts), attributes, balance, aligned=kind.aligned)

    def _residual(self, groups: Sequence[Group], parameters: Mapping[str, Tensor], model: nn.Module) -> Group:
        """Every axis as long as the residual is wide that belongs to no unit of a layer."""
        taken = {(cut.tensor, cut.axis) for group in groups if group.kind not in WHOLE for cut in group.cuts}
        depth = len(model.get_submodule(self.layers))  # type: ignore[arg-type]
        for entry in self.not_residual:
            name, axis = entry.split(":")
            taken |= {(f"{self.layers}.{layer}.{name}", int(axis)) for layer in range(depth)}
        tables = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Embedding)}
        output = model.get_output_embeddings()  # type: ignore[operator]
        tables |= {name for name, value in parameters.items() if output is not None and value is output.weight}
        narrowed = (getattr(model.config, "pruned", None) or {}).get("kept", {}).get(WIDTH)
        width = len(narrowed["0"]) if narrowed else int(getattr(model.config, self.width))
        cuts = [
            Cut(name, axis, 1)
            for name, tensor in parameters.items()
            for axis, size in enumerate(tensor.shape)
            if size == width and (name, axis) not in taken and not (name in tables and axis == 0)
        ]
        return Group(0, WIDTH, width, tuple(cuts))


def head_dim(config: Any) -> int:
    """Width of one attention head, from the sizes the architecture was built with."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def heads(attention: Attention, output: str, *attributes: str) -> Kind:
    """Attention heads of three `nn.Linear` projections and the one, `output`, that joins them.

    Args:
        attention: names of the projections.
        output: name of the joining projection.
        attributes: of the attention module, in proportion to the number of heads.
    """
    projections = (attention.query, attention.key, attention.value)
    rows = [(f"{name}.{part}", 0) for name in projections for part in ("weight", "bias")]
    numbers = tuple((attention.module, attribute) for attribute in attributes)
    return Kind("head", (*rows, (f"{output}.weight", 1)), head_dim, numbers, ATTENTION)


def neurons(*ups: str, down: str) -> Kind:
    """FFN neurons between one `nn.Linear`, or several that are multiplied (a gated FFN), and the one that joins."""
    rows = [(f"{up}.{part}", 0) for up in ups for part in ("weight", "bias")]
    return Kind("neuron", (*rows, (f"{down}.weight", 1)), aligned=True)


def _present(layer: nn.Module, part: Sublayer) -> bool:
    return any(True for path in part.modules for _ in layer.get_submodule(path).parameters())


def _everything(output: str, parameters: Mapping[str, Tensor]) -> tuple[Cut, ...]:
    """One unit that is a whole projection (or a bare parameter)."""
    names = [name for name in (output, f"{output}.bias", f"{output}.weight") if name in parameters]
    return tuple(Cut(name, 0, parameters[name].shape[0]) for name in names)
