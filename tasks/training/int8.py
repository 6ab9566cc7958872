"""Quantization-aware training: forward passes round as the int8 graph will, gradients pass straight through.

Bengio, Léonard & Courville, 2013 (straight-through estimator); Jacob et al., 2018 (training with simulated rounding).
"""

import types
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import PreTrainedModel

from tasks.core.errors import UserError
from tasks.families import FAMILIES, family_of
from tasks.families.anatomy import Attention, Family, Group
from tasks.modeling.checkpoint import head_of
from tasks.modeling.modeling_pruned import Absent
from tasks.text.classification import SEQUENCE
from tasks.training.extra import Extra, Parameters

SMALLEST = torch.finfo(torch.float32).tiny


class Int8(Extra):
    """Rounds what goes through every matrix to the grid of ONNX Runtime's dynamic int8; the weights stay float32.

    Weights of Linear are int8, symmetric, by output channel; the activations that they meet uint8, by the range of the
    batch's tokens that the graph computes (`tasks.quantize.packing`); embeddings uint8, by the range of their table.
    Validation during the training is rounded too.

    Args:
        model: its present matrices are meant, not what other extras may add.
    """

    name = "int8"

    def __init__(self, model: PreTrainedModel) -> None:
        family = family_of(model.config.model_type)
        if family.attention is None:
            known = ", ".join(sorted(name for name, family in FAMILIES.items() if family.attention))
            raise UserError(f"{model.config.model_type}: int8 graphs are made of {known}; set quantize to false")
        self.modules = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Embedding)]
        self.first = _behind_keys(model, family) if head_of(type(model)) is SEQUENCE else set()
        self.mask: Tensor | None = None

    def attach(self, model: nn.Module, parameters: Parameters, groups: Sequence[Group]) -> list[dict[str, Any]]:
        """See `Extra.attach`; gains no parameters."""
        del parameters, groups
        self.hook = model.register_forward_pre_hook(self._look, with_kwargs=True)
        for module in self.modules:
            forward = self._linear if isinstance(module, nn.Linear) else _embedding
            module.forward = types.MethodType(forward, module)  # type: ignore[method-assign]
        return []

    def release(self) -> None:
        """Lets the model compute without rounding again."""
        self.hook.remove()
        for module in self.modules:
            del module.forward

    def _look(self, _: nn.Module, __: Any, given: dict[str, Any]) -> None:
        self.mask = given["attention_mask"].bool()

    def _linear(self, module: nn.Linear, values: Tensor) -> Tensor:
        range_of = values
        if values.ndim == 3:
            range_of = values[:, 0] if module in self.first else values[self.mask]
        return F.linear(rounded(values, range_of), rounded_channels(module.weight), module.bias)


def rounded(values: Tensor, table: Tensor | None = None) -> Tensor:
    """`values` on the uint8 grid over the range of `table` (None: of themselves), 0 inside, as DynamicQuantizeLinear.

    https://onnx.ai/onnx/operators/onnx__DynamicQuantizeLinear.html
    """
    values = values.float()
    low, high = torch.aminmax(values.detach() if table is None else table.detach().float())
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    scale = ((high - low) / 255).clamp(min=SMALLEST)
    zero = (-low / scale).round().clamp(0, 255).to(torch.int32)
    return torch.fake_quantize_per_tensor_affine(values, scale, zero, 0, 255)


def rounded_channels(weight: Tensor) -> Tensor:
    """`weight`, shape (out, in), on the int8 grid of each output channel, symmetric around 0."""
    scales = (weight.detach().abs().amax(1) / 127).clamp(min=SMALLEST)
    zeros = torch.zeros_like(scales, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, -127, 127)


def _behind_keys(model: PreTrainedModel, family: Family) -> set[nn.Module]:
    """The matrices behind the last attention's keys and values: only the first token of a row needs them."""
    found: set[nn.Module] = set()
    names, layers = cast("Attention", family.attention), cast("nn.ModuleList", model.get_submodule(family.layers))
    for layer in reversed(layers):
        found.update(module for module in layer.modules() if isinstance(module, nn.Linear))
        if not isinstance(layer.get_submodule(names.module), Absent):
            return found - {layer.get_submodule(name) for name in (names.key, names.value)}
    return found


def _embedding(module: nn.Embedding, ids: Tensor) -> Tensor:
    rows = F.embedding(ids, module.weight, module.padding_idx)
    return rounded(rows, module.weight)
