"""Wanda: weights times the norm of their inputs, sum over a unit's columns of |w_ij| ||x_j|| (Sun et al., 2024).

||x_j|| is the L2 norm of input j over the tokens of the sample.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tasks.reconstruct.gram import Gram
from tasks.reconstruct.masks import wanda
from tasks.score.joined import by_join


def _units(weight: Tensor, gram: Gram, columns: Sequence[Sequence[int]]) -> Tensor:
    each = wanda(weight, gram.matrix).sum(0)
    return torch.stack([each[unit].sum() for unit in columns])


WANDA = by_join(_units, lambda weight, gram: wanda(weight, gram.matrix))
