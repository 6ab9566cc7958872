"""The weights on the inputs that stay which best give the outputs that are wanted, by least squares.

minimise ||Y - X_K W'^T||^2 + r ||W' - W_K||^2 over W', which gives W' = (Y^T X_K + r W_K) (H_KK + r I)^-1, with
H = X^T X and K the kept columns of X. With a bias, the sums are those of the centred inputs and outputs, and
b' = mean(y) - W' mean(x_K): the solution for [W' b'] on X with a constant-one feature appended. The pull r towards the
present weights is the damping that OBS has too, so both agree.
Layer-wise reconstruction: He et al., 2017 ("Channel Pruning"); Kwon et al., 2022; Kurtic et al., 2023 ("ZipLM").
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.reconstruct.gram import Gram, factor


@dataclass(frozen=True)
class Fit:
    """New weights of a layer.

    weight: (out, kept), of the present weight's type.
    bias: (out,), or None if no bias was given: an existing one then stays as it is.
    error: ||Y - Y'||^2 / ||Y||^2 over the calibration tokens (of Y less its mean if a bias is fitted), without the
        damping term.
    """

    weight: Tensor
    bias: Tensor | None
    error: float


def least_squares(weight: Tensor, gram: Gram, kept: Tensor, damping: float = 0.01, bias: Tensor | None = None) -> Fit:
    """Fits the weights of the `kept` input columns.

    weight: W, the present weights (out, features); callers transpose a Conv1D.
    gram: sums over the inputs, and over the outputs that are wanted (less the bias, if that stays). Without wanted
        outputs, those that the present weights give with all columns.
    kept: indices of columns of X (k,), in the order that the result has.
    damping: r as share of the mean diagonal of H; 0 for the plain solution.
    bias: the present bias (out,), to fit a bias too.

    Raises UserError if H_KK is singular. Time O(k^3 + out k^2), memory 8 (2 k^2 + 3 out k) bytes.
    """
    normal = Normal(weight, gram, kept, bias)
    fitted, shifted = normal.solve(damping)
    return Fit(fitted.to(weight), shifted, output_error(weight, fitted, normal.sums, kept))


class Normal:
    """The normal equations of a fit, for any damping; arguments as in `least_squares`."""

    def __init__(self, weight: Tensor, gram: Gram, kept: Tensor, bias: Tensor | None = None) -> None:
        """Centres the sums where there is a bias, once."""
        gram = gram.aimed(weight, bias)
        self.sums = gram if bias is None else gram.centred()
        kept = kept.to(gram.matrix.device)
        cross, self.wanted = self.sums.asked()
        self.matrix, self.cross, self.total = self.sums.matrix[kept][:, kept], cross[:, kept], gram.total[kept]
        self.present, self.bias = weight.to(gram.matrix)[:, kept], bias

    def solve(self, damping: float) -> tuple[Tensor, Tensor | None]:
        """The weights (out, kept), float64, and the bias (out,); raises UserError as `least_squares` does."""
        pull = damping * self.sums.matrix.diagonal().mean()
        lower = factor(self.matrix + pull * torch.eye(len(self.matrix)).to(self.matrix))
        fitted = torch.cholesky_solve((self.cross + pull * self.present).T, lower).T
        if self.bias is None:
            return fitted, None
        return fitted, ((self.wanted - fitted @ self.total) / self.sums.tokens).to(self.bias)

    def missed(self, fitted: Tensor, bias: Tensor | None) -> float:
        """sum ||y - W' x_K - b'||^2 over these tokens, of weights (out, kept) and a bias that were fitted to others."""
        lost = self.sums.energy - 2 * (self.cross * fitted).sum() + _energy(fitted, self.matrix)
        if bias is not None:  # what the means miss
            tokens = self.sums.tokens
            lost += (self.wanted - fitted @ self.total - tokens * bias.to(fitted)).square().sum() / tokens
        return float(lost)


def output_error(weight: Tensor, fitted: Tensor, gram: Gram, kept: Tensor | None = None) -> float:
    """||Y - X_K W'^T||^2 / ||Y||^2 for any W' (out, kept), 0 to 1 at a least-squares solution.

    W (out, features) are the weights that give Y if `gram` has none; K = `kept` (all columns if None). Give
    `gram.centred()` if the bias is fitted too. Time O(out in^2), memory 8 * 2 out in bytes.
    """
    columns = torch.arange(len(gram.matrix)) if kept is None else kept
    columns, fitted = columns.to(gram.matrix.device), fitted.to(gram.matrix)
    if gram.cross is None:
        weight = weight.to(gram.matrix)
        whole = _energy(weight, gram.matrix)
        lost = _energy(weight.index_add(1, columns, fitted, alpha=-1), gram.matrix)
    else:
        whole = torch.tensor(gram.energy, dtype=torch.float64)
        mixed = (gram.cross[:, columns] * fitted).sum()
        lost = whole - 2 * mixed + _energy(fitted, gram.matrix[columns][:, columns])
    return float((lost / whole).clamp_min(0)) if whole > 0 else 0.0


def _energy(weight: Tensor, matrix: Tensor) -> Tensor:
    """tr(W H W^T)."""
    return ((weight @ matrix) * weight).sum()
