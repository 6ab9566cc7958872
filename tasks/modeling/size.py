"""What a model costs: parameters, and operations for an input of some length."""

from torch import nn
from transformers import PreTrainedModel

from tasks.families import family_of
from tasks.families.anatomy import head_dim
from tasks.modeling.matrices import matrices

PER_TOKEN = ("ForCausalLM", "LMHeadModel", "ForQuestionAnswering", "ForQuestionAnsweringSimple")
"""Ends of the names of models whose head looks at every token."""


SIZES = "sizes.json"
"""What the dense model costs, at the mean length of its training rows."""


def size(model: PreTrainedModel, length: float) -> dict[str, float]:
    """`parameters` and `flops`."""
    return {"parameters": parameters(model), "flops": flops(model, length)}


def parameters(model: PreTrainedModel) -> int:
    """Number of trainable numbers; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def nonzero(model: PreTrainedModel) -> int:
    """Those of them that are not zero: what unstructured pruning leaves."""
    return sum(int(parameter.count_nonzero()) for parameter in model.parameters())


def flops(model: PreTrainedModel, length: float) -> float:
    """Floating-point operations of one forward pass of one row of `length` tokens.

    Two for each weight of a matrix product (for each token; in the head of a classifier once for the row), and
    2 * length^2 * width for each product of attention in each layer; norms, softmax and activations are left out.
    """
    family = family_of(model.config.model_type)
    inside = matrices(model)
    total = sum(2 * matrix.parameter.numel() * length for matrix in inside)
    head = length if type(model).__name__.endswith(PER_TOKEN) else 1
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and not name.startswith(f"{family.layers}."):
            total += 2 * module.weight.numel() * head
    for group in family.groups(model):
        if group.kind == "head":
            total += 2 * family.products * length**2 * group.count * head_dim(model.config)
    return total
