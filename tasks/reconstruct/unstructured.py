"""SparseGPT: single weights removed column by column, each error made up for by the columns to its right.

With Hinv = U^T U, U upper triangular, U_j: / U_jj is the OBS update of the columns from j on when those before are
already fixed. Removing w_ij costs w_ij^2 / U_jj^2 and changes row i by -w_ij / U_jj * U_j: (Frantar & Alistarh, 2023).
All rows share U, which is what makes it cheap, at the price that columns to the left never adapt again: the result
lies between removal without an update and the exact least-squares weights of the mask.
"""

import torch
from torch import Tensor

from tasks.modeling.lowest import lowest
from tasks.reconstruct.gram import damped, inverse_root
from tasks.reconstruct.masks import check_pattern, removed


def sparsegpt(
    weight: Tensor,
    gram: Tensor,
    *,
    ratio: float | None = None,
    pattern: tuple[int, int] | None = None,
    mask: Tensor | None = None,
    block: int = 128,
    damping: float = 0.01,
) -> tuple[Tensor, Tensor]:
    """Sparse weights (out, in), of the type of `weight`, and their mask (True = kept).

    weight: (out, in); callers transpose a Conv1D. gram: H = X^T X (in, in).
    Exactly one of: ratio, the share of weights to remove, equal in every `block` of columns and free within it (all
    rows compared, as in the paper), exact over the matrix; pattern (n, m), n kept of each m consecutive inputs;
    mask (out, in), fixed beforehand and only compensated for.
    damping: added to H, as share of its mean diagonal.

    Raises UserError for a ratio outside 0 ... 1, a pattern that rows do not divide into, and a singular H; ValueError
    unless one rule is given. Time O(in^3 + out in^2); memory 8 (3 in^2 + 2 out in) bytes.
    """
    if sum(rule is not None for rule in (ratio, pattern, mask)) != 1:
        raise ValueError("Give one of ratio, pattern and mask")
    rows, size = weight.shape
    if pattern is not None:
        check_pattern(size, *pattern)
        block = -(-block // pattern[1]) * pattern[1]
    root = inverse_root(damped(gram, damping))
    # Transposed, so that a column of W is contiguous.
    columns = weight.to(gram.device, torch.float64).T.clone(memory_format=torch.contiguous_format)
    kept = torch.ones_like(columns, dtype=torch.bool) if mask is None else mask.to(gram.device).bool().T.contiguous()
    for start in range(0, size, block):
        stop = min(start + block, size)
        part, corner = columns[start:stop], root[start:stop, start:stop]
        scale = corner.diagonal()[:, None]
        if ratio is not None:
            lost = removed(ratio, rows * stop) - removed(ratio, rows * start)
            kept[start:stop] = ~lowest((part / scale).square().flatten(), lost).view(part.shape)
        errors = torch.empty_like(part)
        for j in range(stop - start):
            if pattern is not None and j % pattern[1] == 0:
                group = slice(j, j + pattern[1])
                costs = (part[group] / scale[group]).square()
                kept[start:stop][group] = ~lowest(costs.T, pattern[1] - pattern[0]).T
            errors[j] = part[j].masked_fill(kept[start + j], 0) / scale[j]
            part[j:].addr_(corner[j, j:], errors[j], alpha=-1)
        columns[stop:].addmm_(root[start:stop, stop:].T, errors, alpha=-1)
    return columns.masked_fill_(~kept, 0).T.to(weight).contiguous(), kept.T.contiguous()
