"""First-order Taylor: the change of the loss if the unit were zero, sum w * dL/dw (Molchanov et al., 2017, 2019).

`TAYLOR` is the mean over batches of |sum w * dL/dw| (for attention heads Michel, Levy & Neubig, 2019), in which the
weights of a unit may cancel out; `TAYLOR_ABSOLUTE` that of sum |w * dL/dw|, in which they do not.
"""

import torch

from tasks.score.criterion import by_gradient

TAYLOR = by_gradient(lambda w, g: w * g, torch.abs)
TAYLOR_ABSOLUTE = by_gradient(lambda w, g: (w * g).abs())
