"""Activation: how strongly a unit fires, the mean square over tokens of all it hands on (cf. Hu et al., 2016)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tasks.reconstruct.gram import Gram
from tasks.score.joined import by_join


def _units(weight: Tensor, gram: Gram, columns: Sequence[Sequence[int]]) -> Tensor:  # noqa: ARG001
    power = gram.matrix.diagonal() / gram.tokens
    return torch.stack([power[unit].sum() for unit in columns])


ACTIVATION = by_join(_units)
