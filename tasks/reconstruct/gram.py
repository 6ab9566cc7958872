"""Second moments of a layer's inputs, summed over batches, and the factors that the weight updates need.

A layer's squared output error is quadratic in its weights, ||(W - W')X||^2 = tr((W - W') H (W - W')^T) with H = X^T X
(OBS: Hassibi & Stork, 1993; per layer: Frantar & Alistarh, 2022), so H is all that the updates need of the data.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tasks.core.errors import UserError

ROWS = 4096


@dataclass
class Gram:
    """Sums over tokens of the inputs that a layer sees, and of those that it saw in the dense model.

    Start with `Gram.empty`, feed with `add`. All tensors are float64, on one device.
    Memory: 8 f^2 bytes for f features; with a dense stream of d features 8 (f^2 + f d + d^2).

    matrix: X^T X (features, features).
    total: the sum of X over tokens (features,).
    tokens: how many rows were added, or the sum of their weights.
    cross: X_dense^T X (dense_features, features), or None without a dense stream.
    dense: X_dense^T X_dense (dense_features, dense_features), or None.
    dense_total: the sum of X_dense over tokens (dense_features,), or None.
    """

    matrix: Tensor
    total: Tensor
    tokens: float = 0
    cross: Tensor | None = None
    dense: Tensor | None = None
    dense_total: Tensor | None = None

    @classmethod
    def empty(cls, features: int, dense_features: int | None = None, device: torch.device | str = "cpu") -> "Gram":
        """Sums over no tokens yet; with `dense_features`, every `add` takes the dense model's inputs too."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        if dense_features is None:
            return cls(zeros(features, features), zeros(features))
        return cls(
            matrix=zeros(features, features),
            total=zeros(features),
            cross=zeros(dense_features, features),
            dense=zeros(dense_features, dense_features),
            dense_total=zeros(dense_features),
        )

    def add(self, x: Tensor, dense: Tensor | None = None, weights: Tensor | None = None) -> None:
        """Adds a batch `x` (..., features), of any float type, and the same tokens in the dense model.

        `weights` (tokens,) says how much each counts; all the same if None.

        Leave out padding first (`x[attention_mask.bool()]`): it is no token. Products of 4096 rows are taken in the
        type of `x` and added up in float64. Time: O(tokens f^2). Raises ValueError where the two streams do not belong
        together.
        """
        x = x.detach().reshape(-1, self.matrix.shape[0])
        if (dense is None) != (self.dense is None):
            raise ValueError("This Gram was made " + ("without" if self.dense is None else "for") + " a dense stream")
        other = None if self.dense is None or dense is None else dense.detach().reshape(-1, self.dense.shape[0])
        if other is not None and len(other) != len(x):
            raise ValueError(f"{len(x)} tokens of the pruned model against {len(other)} of the dense one")
        for start in range(0, len(x), ROWS):
            rows = x[start : start + ROWS].to(self.matrix.device)
            each = rows if weights is None else rows * weights[start : start + ROWS, None].to(rows)
            self.matrix += each.T @ rows
            self.total += each.double().sum(0)
            if other is not None and self.cross is not None and self.dense is not None and self.dense_total is not None:
                dense_rows = other[start : start + ROWS].to(self.matrix.device)
                each_dense = (
                    dense_rows if weights is None else dense_rows * weights[start : start + ROWS, None].to(rows)
                )
                self.cross += each_dense.T @ rows
                self.dense += each_dense.T @ dense_rows
                self.dense_total += each_dense.double().sum(0)
        self.tokens += len(x) if weights is None else float(weights.double().sum())

    def centred(self) -> "Gram":
        """The same sums of X minus its mean over tokens: what is left to the weights once a bias is fitted beside them.

        A least-squares fit with a constant-one feature appended to X has these as its normal equations. Totals stay.
        """
        if self.tokens == 0:
            raise ValueError("No tokens were added")
        matrix = self.matrix - torch.outer(self.total, self.total) / self.tokens
        if self.cross is None or self.dense is None or self.dense_total is None:
            return replace(self, matrix=matrix)
        cross = self.cross - torch.outer(self.dense_total, self.total) / self.tokens
        dense = self.dense - torch.outer(self.dense_total, self.dense_total) / self.tokens
        return replace(self, matrix=matrix, cross=cross, dense=dense)


def damped(matrix: Tensor, share: float) -> Tensor:
    """`matrix` (n, n) plus `share` of its mean diagonal on the diagonal; 0.01 is what SparseGPT uses."""
    added = torch.full_like(matrix.diagonal(), share) * matrix.diagonal().mean()
    return matrix + torch.diag(added)


def factor(matrix: Tensor) -> Tensor:
    """The lower Cholesky factor of `matrix` (..., n, n).

    Raises UserError where it is not positive definite, or a column is a combination of others to within rounding: what
    is left of it by those before it is then below n eps of its diagonal.
    """
    lower: Tensor
    lower, failed = torch.linalg.cholesky_ex(matrix)
    left = lower.diagonal(dim1=-2, dim2=-1).square()
    rounding = matrix.shape[-1] * torch.finfo(matrix.dtype).eps * matrix.diagonal(dim1=-2, dim2=-1)
    if failed.any() or not (left > rounding).all():
        raise UserError(
            f"The calibration inputs do not determine the weights: the {matrix.shape[-1]} x {matrix.shape[-1]} matrix "
            "of their products is singular or not finite. Use a damping above 0 (0.01 is usual), more calibration "
            "rows, or a model whose activations are finite and not all zero."
        )
    return lower


def inverse_root(matrix: Tensor) -> Tensor:
    """The upper triangular U (n, n) with U^T U = `matrix`^-1, float64; raises UserError as `factor` does.

    From the Cholesky factor of the matrix with its order reversed, so that the inverse itself is never formed.
    Time O(n^3), memory 8 * 3 n^2 bytes.
    """
    upper = factor(matrix.double().flip(0, 1)).flip(0, 1)
    root: Tensor = torch.linalg.solve_triangular(upper, torch.eye(len(upper)).to(upper), upper=True)
    return root
