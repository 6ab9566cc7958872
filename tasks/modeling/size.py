"""What a model costs: parameters, and operations for an input of some length."""

import torch
from transformers import PreTrainedModel

from tasks.families import family_of
from tasks.families.anatomy import head_dim


def parameters(model: PreTrainedModel) -> int:
    """Number of trainable numbers; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def flops(model: PreTrainedModel, length: float) -> float:
    """Floating-point operations of one forward pass of one row of `length` tokens.

    Two for each weight of a matrix product (in the layers for each token, elsewhere once for the row), and
    4 * length^2 * width for the two products of attention in each layer; norms, softmax and activations are left out.
    """
    family = family_of(model.config.model_type)
    total = 0.0
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            total += 2 * module.weight.numel() * (length if name.startswith(f"{family.layers}.") else 1)
    for group in family.groups(model):
        if group.kind == "head":
            total += 4 * length**2 * group.count * head_dim(model.config)
    return total
