"""The extras that a recipe chooses: penalties, and masks over single weights."""

from transformers import PreTrainedModel

from tasks.modeling.matrices import matrices
from tasks.recipe.trainings import Training
from tasks.training.extra import Extra
from tasks.training.regularize import L1, L2, GroupLasso
from tasks.training.sparse import FixedZeros, Gradual, Regrowth
from tasks.training.units import own_kinds

TIMES = 20
"""Updates of masks that change during a training, if all of it were used for them."""


def penalties(settings: Training, model: PreTrainedModel) -> list[Extra]:
    """Those with a strength above 0, on the units that the layers of `model` consist of."""
    strengths = {L1: settings.l1, L2: settings.l2, GroupLasso: settings.group_lasso}
    return [penalty(strength, own_kinds(model)) for penalty, strength in strengths.items() if strength]


def masks(
    model: PreTrainedModel, steps: int, *, zeros: bool, gradual: float = 0.0, regrowth: float = 0.0
) -> list[Extra]:
    """What keeps the matrices of the layers sparse, if anything does.

    Args:
        model: what the training starts from.
        steps: of the training.
        zeros: whether weights that are zero stay so.
        gradual: share of each matrix that is zero in the end, reached on the way.
        regrowth: share of the living weights that moves at first, where there are zeros.
    """
    kinds, only, every = own_kinds(model), [matrix.tensor for matrix in matrices(model)], max(1, steps // TIMES)
    if gradual:
        return [Gradual(gradual, kinds, every, only=only)]
    if zeros and regrowth:
        return [Regrowth(kinds, every, regrowth, only=only)]
    return [FixedZeros(kinds, only)] if zeros else []
