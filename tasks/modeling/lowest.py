"""The lowest entries of tensors."""

import torch
from torch import Tensor


def lowest(table: Tensor, count: int) -> Tensor:
    """Mask of the `count` lowest entries along the last axis, the first of equals; bool, shape of `table`."""
    if count == 0:
        return torch.zeros_like(table, dtype=torch.bool)
    threshold = table.kthvalue(count, dim=-1, keepdim=True).values
    below, equal = table < threshold, table == threshold
    return below | (equal & (equal.cumsum(-1) <= count - below.sum(-1, keepdim=True)))
