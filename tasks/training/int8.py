"""Quantization-aware training: forward passes round as the int8 graph will, gradients pass straight through.

Bengio, Léonard & Courville, 2013 (straight-through estimator); Jacob et al., 2018 (training with simulated rounding).
"""

import types
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import PreTrainedModel

from tasks.core.errors import UserError
from tasks.families import FAMILIES, family_of
from tasks.families.anatomy import Group
from tasks.training.extra import Extra, Parameters

SMALLEST = torch.finfo(torch.float32).tiny


class Int8(Extra):
    """Rounds what goes through every matrix to the grid of ONNX Runtime's dynamic int8; the weights stay float32.

    Weights of Linear are int8, symmetric, by output channel; the activations that they meet uint8, by the range of the
    batch; embeddings uint8, by the range of their table. Validation during the training is rounded too.

    Args:
        model: its present matrices are meant, not what other extras may add.
    """

    name = "int8"

    def __init__(self, model: PreTrainedModel) -> None:
        if family_of(model.config.model_type).attention is None:
            known = ", ".join(sorted(name for name, family in FAMILIES.items() if family.attention))
            raise UserError(f"{model.config.model_type}: int8 graphs are made of {known}; set quantize to false")
        self.modules = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Embedding)]

    def attach(self, model: nn.Module, parameters: Parameters, groups: Sequence[Group]) -> list[dict[str, Any]]:
        """See `Extra.attach`; gains no parameters."""
        del model, parameters, groups
        for module in self.modules:
            forward = _linear if isinstance(module, nn.Linear) else _embedding
            module.forward = types.MethodType(forward, module)  # type: ignore[method-assign]
        return []

    def release(self) -> None:
        """Lets the model compute without rounding again."""
        for module in self.modules:
            del module.forward


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


def _linear(module: nn.Linear, values: Tensor) -> Tensor:
    return F.linear(rounded(values), rounded_channels(module.weight), module.bias)


def _embedding(module: nn.Embedding, ids: Tensor) -> Tensor:
    rows = F.embedding(ids, module.weight, module.padding_idx)
    return rounded(rows, module.weight)
