"""First-order Taylor: the change of the loss if the unit were zero, mean over batches of |sum w * dL/dw|.

Molchanov et al. (2017, 2019); for attention heads Michel, Levy & Neubig (2019).
"""

import torch

from tasks.score.criterion import Criterion

TAYLOR = Criterion(element=lambda w, g: w * g, batch=torch.abs)
