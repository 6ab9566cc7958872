"""Removal of single weights from the matrices of a model: layer by layer, with or without the others adapted.

Each matrix gets as many zeros as it is told, or a pattern such as 2:4. With an update, what is lost is made up for by
the weights that stay (SparseGPT, see `unstructured.py`), on the inputs that the layers below, already sparse, give.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tasks.core.progress import progress
from tasks.families import family_of
from tasks.modeling.matrices import Matrix, layer_matrices, matrices
from tasks.recipe.goal import Amount
from tasks.reconstruct.gram import Gram
from tasks.reconstruct.layerwise import Batches, Stream
from tasks.reconstruct.masks import by_pattern, by_ratio, by_threshold
from tasks.reconstruct.unstructured import sparsegpt


def mask(matrix: Matrix, scores: Tensor, amount: Amount, *, per_row: bool) -> Tensor:
    """Which weights of a matrix stay, shape (outputs, inputs).

    Args:
        scores: importance of its weights, in the shape of the parameter.
        amount: a share, a threshold or a pattern.
        per_row: the share goes from each output alone, not from the whole matrix.
    """
    table = matrix.unfold(scores)
    if amount.pattern is not None:
        return by_pattern(table, *amount.pattern)
    if amount.threshold is not None:
        return by_threshold(table, amount.threshold)
    if amount.count is not None:
        raise ValueError("single weights go by a share, a threshold or a pattern")
    return by_ratio(table, amount.share or 0.0, per="row" if per_row else "matrix")


def drop(model: PreTrainedModel, masks: Mapping[str, Tensor]) -> None:
    """Sets every weight outside of its matrix's mask to zero, in place."""
    for matrix in matrices(model):
        if matrix.tensor in masks:
            matrix.write(matrix.read() * masks[matrix.tensor].to(matrix.parameter.device))


def adapt(
    model: PreTrainedModel, amount: Amount, batches: Batches, masks: Mapping[str, Tensor] | None = None,
    damping: float = 0.01,
) -> None:  # fmt: skip
    """Removes weights of every matrix and makes up for them, in place.

    Args:
        amount: a share of each matrix or a pattern; which weights go is chosen along the way (SparseGPT).
        batches: calibration rows, on the model's device.
        masks: by matrix, what stays; then nothing is chosen and `amount` says nothing.
        damping: see `sparsegpt`.
    """
    model.eval()
    stream = Stream(model, batches)
    family = family_of(model.config.model_type)
    for number, layer in enumerate(stream.layers):
        found = layer_matrices(family, number, layer)
        grams = {matrix.tensor: Gram.empty(matrix.width, device=matrix.parameter.device) for matrix in found}
        for seen in stream.inputs(number, layer, found):
            for name, x in seen.items():
                grams[name].add(x)
        for matrix in found:
            gram = grams[matrix.tensor].matrix
            if masks is not None:
                chosen = {"mask": masks[matrix.tensor]}
            else:
                chosen = {"pattern": amount.pattern} if amount.pattern else {"ratio": amount.share}  # type: ignore[dict-item]
            values, _ = sparsegpt(_alive(matrix, gram), _silent(gram), damping=damping, **chosen)  # type: ignore[arg-type]
            matrix.write(values)
        stream.advance(number, layer)
        progress("layer", number + 1, len(stream.layers))


def _silent(gram: Tensor) -> Tensor:
    """With inputs that are always zero given some energy, so that the inverse exists."""
    dead = gram.diagonal() == 0
    return gram + torch.diag(dead.to(gram))


def _alive(matrix: Matrix, gram: Tensor) -> Tensor:
    """The weights, those on inputs that are always zero first to go."""
    weight = matrix.read()
    weight[:, (gram.diagonal() == 0).to(weight.device)] = 0
    return weight
