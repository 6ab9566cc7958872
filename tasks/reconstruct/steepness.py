"""Which directions of a matrix's output the loss depends on.

With G the mean over tokens of g g^T, g the gradient of a row's loss by the output, an output error e raises the loss by
about e^T G e / 2: the factor that the empirical Fisher information has on the side of the outputs (K-FAC: Martens &
Grosse, 2015). A model of two classes depends on few of the hundreds of directions.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tasks.modeling.matrices import Matrix
from tasks.reconstruct.layerwise import Batches

Loss = Callable[[Any, int], Tensor]
"""(outputs of the model, number of the batch) to losses of its rows."""
EVEN = 0.01
"""Share of the weight that all directions have alike."""


def steepness(model: PreTrainedModel, batches: Batches, loss: Loss, found: Sequence[Matrix]) -> dict[str, Tensor]:
    """By name of the matrix, the root of G, of mean diagonal 1, mixed with the identity; (outputs, outputs) float64.

    Matrices that are no module's weight are left out. Time and memory: a training step's for each batch.
    """
    sums: dict[str, Tensor] = {}
    hooks = []
    for matrix in found:
        module, _, last = matrix.tensor.rpartition(".")
        if last == "weight":
            outputs = matrix.parameter.numel() // matrix.width
            sums[matrix.tensor] = torch.zeros(outputs, outputs, dtype=torch.float64, device=matrix.parameter.device)
            hooks.append(model.get_submodule(module).register_forward_hook(_adding(sums[matrix.tensor])))
    try:
        for number, batch in enumerate(batches):
            loss(model(**batch), number).sum().backward()  # type: ignore[no-untyped-call]
            model.zero_grad(set_to_none=True)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: _root(matrix) for name, matrix in sums.items()}


def _adding(total: Tensor) -> Callable[[nn.Module, Any, Tensor], None]:
    def take(gradient: Tensor) -> None:
        rows = gradient.reshape(-1, len(total))
        total.add_((rows.T @ rows).double())

    def watch(_: nn.Module, __: Any, out: Tensor) -> None:
        if out.requires_grad:
            out.register_hook(take)  # type: ignore[no-untyped-call]

    return watch


def _root(matrix: Tensor) -> Tensor:
    mean = matrix.diagonal().mean()
    scaled = matrix / mean if mean > 0 else matrix
    values, vectors = torch.linalg.eigh((1 - EVEN) * scaled + EVEN * torch.eye(len(matrix)).to(matrix))
    root: Tensor = vectors @ torch.diag(values.clamp_min(0).sqrt()) @ vectors.T
    return root
