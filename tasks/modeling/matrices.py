"""The matrices of a model's layers, each seen as (outputs, inputs), and what flows into them."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tasks.families import family_of
from tasks.families.anatomy import Cut, Family


@dataclass(frozen=True)
class Matrix:
    """A weight of a layer that is multiplied with activations, whatever the axes it is stored in."""

    layer: int
    tensor: str
    """Name of the parameter."""
    parameter: nn.Parameter
    inputs: tuple[int, ...]
    """The axes of the parameter that are its inputs; the others are its outputs."""
    hook: Callable[[Callable[[Tensor], None]], Callable[[], None]]
    """Takes what is to be called with its inputs, and returns what ends that."""
    bias: nn.Parameter | None = None

    @property
    def width(self) -> int:
        """Number of inputs."""
        return math.prod(self.parameter.shape[axis] for axis in self.inputs)

    def read(self) -> Tensor:
        """A copy of the weight, shape (outputs, inputs)."""
        return self.unfold(self.parameter.detach()).clone()

    def unfold(self, values: Tensor) -> Tensor:
        """`values`, of the shape of the parameter, in the shape of `read`."""
        return values.permute(self._order()).reshape(-1, self.width)

    def write(self, values: Tensor) -> None:
        """Sets the weight from a matrix of the shape of `read`."""
        with torch.no_grad():
            self.parameter.copy_(self.fold(values))

    def fold(self, values: Tensor) -> Tensor:
        """`values`, of the shape of `read`, in the shape of the parameter."""
        order = self._order()
        shape = [self.parameter.shape[axis] for axis in order]
        return values.reshape(shape).permute([order.index(axis) for axis in range(len(order))]).contiguous()

    def columns(self, cut: Cut, units: Sequence[int]) -> Tensor:
        """Columns of the matrix that the units of `cut`, along an axis of its inputs, hold; int64."""
        place = self.inputs.index(cut.axis)
        sizes = [self.parameter.shape[axis] for axis in self.inputs]
        grid = torch.arange(self.width).reshape(sizes)
        return grid.index_select(place, cut.index(units)).movedim(place, 0).flatten()

    def watch(self, consume: Callable[[Tensor], None]) -> Callable[[], None]:
        """Calls `consume` with the inputs of every forward pass, shape (tokens, inputs), until the result is called."""
        return self.hook(lambda x: consume(x.detach().reshape(-1, self.width)))

    def _order(self) -> list[int]:
        return [*(axis for axis in range(self.parameter.ndim) if axis not in self.inputs), *self.inputs]


def matrices(model: PreTrainedModel) -> list[Matrix]:
    """Every matrix of every layer, in the order of the layers; embeddings and heads are none of them.

    Raises:
        LookupError: the layers hold none.
    """
    family = family_of(model.config.model_type)
    layers = model.get_submodule(family.layers)
    found = [matrix for number, layer in enumerate(layers) for matrix in layer_matrices(family, number, layer)]
    if not found:
        raise LookupError(f"{family.model_type}: no matrices in {family.layers}")
    return found


def layer_matrices(family: Family, number: int, layer: nn.Module) -> list[Matrix]:
    """The matrices of `layer`, which is, or stands for, layer `number` of a model."""
    prefix = f"{family.layers}.{number}."
    found = []
    for name, axes in family.raw.items():
        found.append(Matrix(number, prefix + name, layer.get_parameter(name), axes, _raw(family.watch, layer, name)))
    for name, module in layer.named_modules():
        if isinstance(module, nn.Linear | Conv1D):
            weight, axes = module.get_parameter("weight"), (0,) if isinstance(module, Conv1D) else (1,)
            found.append(Matrix(number, f"{prefix}{name}.weight", weight, axes, _input(module), module.bias))
    return found


@contextlib.contextmanager
def watching(watches: Sequence[tuple[Matrix, Callable[[Tensor], None]]]) -> Iterator[None]:
    """Hands the inputs of each matrix to its consumer while the block runs."""
    stops: list[Callable[[], None]] = []
    try:
        for matrix, consume in watches:
            stops.append(matrix.watch(consume))
        yield
    finally:
        for stop in reversed(stops):
            stop()


def _input(module: nn.Module) -> Callable[[Callable[[Tensor], None]], Callable[[], None]]:
    return lambda consume: module.register_forward_pre_hook(lambda _, args: consume(args[0])).remove


def _raw(
    watch: Callable[[nn.Module, str, Callable[[Tensor], None]], Callable[[], None]] | None, layer: nn.Module, name: str
) -> Callable[[Callable[[Tensor], None]], Callable[[], None]]:
    if watch is None:
        raise LookupError(f"the family does not say what flows into {name}")
    return lambda consume: watch(layer, name, consume)
