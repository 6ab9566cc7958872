"""Magnitude: of a unit's weights, the square of the L2 norm, or the L1 norm (Han et al., 2015; Li et al., 2017).

Both add up over weights, so that per parameter a unit of many weights compares with one of few; the L2 norm itself
grows with their square root only. A single weight scores its absolute value.
"""

import torch

from tasks.score.criterion import by_weight

MAGNITUDE = by_weight(torch.square)
MAGNITUDE_L1 = by_weight(torch.abs)
