"""Single weights of a model as units: which go, and their removal."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tasks.modeling.matrices import matrices
from tasks.modeling.shrink import shrink
from tasks.prune.plan import WEIGHT, Plan
from tasks.recipe.goal import Amount
from tasks.recipe.pruning import ALONG, PER_ROW, Prune
from tasks.reconstruct.layerwise import Batches
from tasks.reconstruct.weights import adapt, drop, mask

Scores = Mapping[str, Tensor]


def thin(
    model: PreTrainedModel, scores: Scores, criterion: str, amount: Amount, batches: Batches, settings: Prune
) -> None:
    """Removes single weights by their scores; of OBS with an update the choice is made along the way."""
    if settings.reconstruct and criterion in ALONG and amount.threshold is None:
        adapt(model, amount, batches, damping=settings.damping)
        return
    chosen = masks(model, scores, criterion, amount)
    if settings.reconstruct:
        adapt(model, amount, batches, chosen, settings.damping)
    else:
        drop(model, chosen)


def masks(model: PreTrainedModel, scores: Scores, criterion: str, amount: Amount) -> dict[str, Tensor]:
    """Which weights of each matrix stay, shape (outputs, inputs)."""
    return {
        matrix.tensor: mask(matrix, scores[f"{WEIGHT}.{matrix.tensor}"], amount, per_row=criterion in PER_ROW)
        for matrix in matrices(model)
    }


def folded(model: PreTrainedModel, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The masks in the shapes of the parameters."""
    return {matrix.tensor: matrix.fold(masks[matrix.tensor]) for matrix in matrices(model)}


def of_what_stays(model: PreTrainedModel, scores: Scores, plan: Plan) -> Scores:
    """Scores of single weights in the shapes that their matrices have once units are gone."""
    if not plan.kept:
        return scores
    again = copy.deepcopy(model)
    with torch.no_grad():
        for matrix in matrices(again):
            matrix.parameter.copy_(scores[f"{WEIGHT}.{matrix.tensor}"])
    return {f"{WEIGHT}.{matrix.tensor}": matrix.parameter.detach() for matrix in matrices(shrink(again, plan.kept))}
