"""Magnitude: the L2 or L1 norm of a unit's weights (Han et al., 2015; Li et al., 2017, for structures)."""

import torch

from tasks.score.criterion import by_weight

MAGNITUDE = by_weight(torch.square, torch.sqrt)
MAGNITUDE_L1 = by_weight(torch.abs)
