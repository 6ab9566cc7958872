"""The weights on the inputs that stay which best reproduce the layer's dense output, by least squares.

minimise ||W X_dense^T - W' X_K^T||^2 + r ||W' - W_K||^2 over W', which gives
W' = (W C_K + r W_K) (H_KK + r I)^-1, with H = X^T X, C = X_dense^T X and K the kept columns of X. With a bias, H and C
are those of the centred inputs, and b' = b + W mean(x_dense) - W' mean(x_K): the solution for [W' b'] on X with a
constant-one feature appended. The pull r towards the present weights is the damping that OBS has too, so both agree.
Layer-wise reconstruction: He et al., 2017 ("Channel Pruning"); Kwon et al., 2022; Kurtic et al., 2023 ("ZipLM").
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.reconstruct.gram import Gram, factor


@dataclass(frozen=True)
class Fit:
    """New weights of a layer.

    weight: (out, kept), of the dense weight's type.
    bias: (out,), or None if no bias was given: an existing one then stays as it is.
    error: ||Y - Y'||^2 / ||Y||^2 over the calibration tokens, Y = W X_dense^T (less its mean if a bias is fitted),
        without the damping term.
    """

    weight: Tensor
    bias: Tensor | None
    error: float


def least_squares(
    weight: Tensor,
    gram: Gram,
    kept: Tensor,
    damping: float = 0.01,
    bias: Tensor | None = None,
    present: Tensor | None = None,
) -> Fit:
    """Fits the weights of the `kept` input columns to the dense output.

    weight: W of the dense layer (out, dense_features); callers transpose a Conv1D.
    gram: sums over the inputs. With a dense stream the target is what the dense model computed, and the fit also makes
        up for the change of its inputs by earlier layers; without one, X_dense = X.
    kept: indices of columns of X (k,), in the order that the result has.
    damping: r as share of the mean diagonal of H; 0 for the plain solution.
    bias: the dense bias (out,), to fit a bias too.
    present: W on the columns of X (out, features) that damping pulls to. Defaults to `weight`; to be given if X has
        other columns than X_dense, else ValueError.

    Raises UserError if H_KK is singular. Time O(k^3 + out in k), memory 8 (2 k^2 + 3 out in) bytes.
    """
    sums = gram if bias is None else gram.centred()
    dense = weight.to(sums.matrix)
    current = dense if present is None else present.to(sums.matrix)
    if current.shape[1] != len(sums.matrix):
        raise ValueError(f"Weights on {current.shape[1]} columns, inputs of {len(sums.matrix)}: give `present`")
    kept = kept.to(sums.matrix.device)
    cross = sums.matrix if sums.cross is None else sums.cross
    pull = damping * sums.matrix.diagonal().mean()
    within = sums.matrix[kept][:, kept]
    target = dense @ cross[:, kept]
    lower = factor(within + pull * torch.eye(len(kept)).to(within))
    fitted = torch.cholesky_solve((target + pull * current[:, kept]).T, lower).T
    shifted = None
    if bias is not None:
        dense_total = sums.total if sums.dense_total is None else sums.dense_total
        shift = (dense @ dense_total - fitted @ sums.total[kept]) / sums.tokens
        shifted = (bias.to(shift) + shift).to(bias)
    return Fit(fitted.to(weight), shifted, output_error(dense, fitted, sums, kept))


def output_error(weight: Tensor, fitted: Tensor, gram: Gram, kept: Tensor | None = None) -> float:
    """||W X_dense^T - W' X_K^T||^2 / ||W X_dense^T||^2 for any W' (out, kept), 0 to 1 at a least-squares solution.

    W (out, dense_features), K = `kept` (all columns if None). Give `gram.centred()` if the bias is fitted too.
    Time O(out in^2), memory 8 * 2 out in bytes.
    """
    columns = torch.arange(len(gram.matrix)) if kept is None else kept
    columns = columns.to(gram.matrix.device)
    weight, fitted = weight.to(gram.matrix), fitted.to(gram.matrix)
    if gram.cross is None or gram.dense is None:
        whole = _energy(weight, gram.matrix)
        change = weight.index_add(1, columns, fitted, alpha=-1)
        lost = _energy(change, gram.matrix)
    else:
        whole = _energy(weight, gram.dense)
        mixed = ((weight @ gram.cross[:, columns]) * fitted).sum()
        lost = whole - 2 * mixed + _energy(fitted, gram.matrix[columns][:, columns])
    return float((lost / whole).clamp_min(0)) if whole > 0 else 0.0


def _energy(weight: Tensor, matrix: Tensor) -> Tensor:
    """tr(W H W^T)."""
    return ((weight @ matrix) * weight).sum()
