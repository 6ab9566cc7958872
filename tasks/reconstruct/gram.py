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
    """Sums over tokens of the inputs X of a layer and, to fit it to, of the outputs Y that are wanted of it.

    Start with `Gram.empty`, feed with `add`. All tensors are float64, on one device.
    Memory: 8 f (f + o) bytes for f features and o outputs.

    matrix: X^T X (features, features).
    total: the sum of X over tokens (features,).
    tokens: how many rows were added.
    cross: Y^T X (outputs, features), or None if no outputs are given.
    wanted: the sum of Y over tokens (outputs,), or None.
    energy: the sum of Y^2.
    """

    matrix: Tensor
    total: Tensor
    tokens: int = 0
    cross: Tensor | None = None
    wanted: Tensor | None = None
    energy: float = 0

    @classmethod
    def empty(cls, features: int, outputs: int | None = None, device: torch.device | str = "cpu") -> "Gram":
        """Sums over no tokens yet; with `outputs`, every `add` takes what is wanted too."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        wanted = (None, None) if outputs is None else (zeros(outputs, features), zeros(outputs))
        return cls(zeros(features, features), zeros(features), 0, *wanted)

    def add(self, x: Tensor, wanted: Tensor | None = None) -> None:
        """Adds a batch `x` (..., features), of any float type, and what is wanted of its tokens (..., outputs).

        Leave out padding first (`x[attention_mask.bool()]`): it is no token. Products of 4096 rows are taken in the
        type of `x` and added up in float64. Time: O(tokens f (f + o)). Raises ValueError where the two do not belong
        together.
        """
        x = x.detach().reshape(-1, self.matrix.shape[0])
        if (wanted is None) != (self.cross is None):
            raise ValueError("This Gram was made " + ("without" if self.cross is None else "for") + " wanted outputs")
        y = None if self.cross is None or wanted is None else wanted.detach().reshape(-1, self.cross.shape[0])
        if y is not None and len(y) != len(x):
            raise ValueError(f"{len(x)} tokens against outputs of {len(y)}")
        for start in range(0, len(x), ROWS):
            rows = x[start : start + ROWS].to(self.matrix.device)
            self.matrix += rows.T @ rows
            self.total += rows.double().sum(0)
            if y is not None and self.cross is not None and self.wanted is not None:
                asked = y[start : start + ROWS].to(rows)
                self.cross += asked.T @ rows
                self.wanted += asked.double().sum(0)
                self.energy += float(asked.double().square().sum())
        self.tokens += len(x)

    def __add__(self, other: "Gram") -> "Gram":
        """The sums over the tokens of both."""
        both = Gram(self.matrix + other.matrix, self.total + other.total, self.tokens + other.tokens)
        if self.cross is None or self.wanted is None or other.cross is None or other.wanted is None:
            return both
        energy = self.energy + other.energy
        return replace(both, cross=self.cross + other.cross, wanted=self.wanted + other.wanted, energy=energy)

    def aimed(self, weight: Tensor, bias: Tensor | None) -> "Gram":
        """The same sums; where nothing is wanted yet, what `weight` (outputs, features) and `bias` give is."""
        if self.cross is not None:
            return self
        weight = weight.to(self.matrix)
        cross, wanted = weight @ self.matrix, weight @ self.total
        energy = float((cross * weight).sum())
        if bias is not None:
            given = bias.to(weight)
            energy += float(2 * given @ wanted + self.tokens * given @ given)
            cross, wanted = cross + torch.outer(given, self.total), wanted + self.tokens * given
        return replace(self, cross=cross, wanted=wanted, energy=energy)

    def asked(self) -> tuple[Tensor, Tensor]:
        """`cross` and `wanted`, which must be there."""
        if self.cross is None or self.wanted is None:
            raise ValueError("No outputs are wanted here; see `aimed`")
        return self.cross, self.wanted

    def centred(self) -> "Gram":
        """The same sums less the means over tokens: what is left to the weights once a bias is fitted beside them.

        A least-squares fit with a constant-one feature appended to X has these as its normal equations. Totals stay.
        """
        if self.tokens == 0:
            raise ValueError("No tokens were added")
        matrix = self.matrix - torch.outer(self.total, self.total) / self.tokens
        if self.cross is None or self.wanted is None:
            return replace(self, matrix=matrix)
        cross = self.cross - torch.outer(self.wanted, self.total) / self.tokens
        energy = self.energy - float(self.wanted.square().sum()) / self.tokens
        return replace(self, matrix=matrix, cross=cross, energy=energy)


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
