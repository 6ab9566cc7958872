"""Greedy structured OBS: blocks of input columns removed one after another, the cheapest first.

Removing the columns M of W, with all others adapted, raises ||(W - W')X||^2 by exactly tr(W_M (Hinv_MM)^-1 W_M^T);
then W -= W_M (Hinv_MM)^-1 Hinv_M: and Hinv -= Hinv_:M (Hinv_MM)^-1 Hinv_M: (Hassibi & Stork, 1993; for structures:
Kurtic, Frantar & Alistarh, 2023, "ZipLM"; cf. Kwon et al., 2022). A block is an FFN neuron (1 column), a head (head_dim
columns of the attention output) or a KV group (the columns of all its heads).

Choosing needs of W only S = W^T W. With Hinv_MM = R R^T, L = R^-1 Hinv_M:, T = R^-1 S_M:, P = R^-1 S_MM R^-T and
U = T - P L / 2, the two updates are Hinv -= L^T L and S -= L^T U + U^T L. They are symmetric and of low rank, so
they are collected and applied many at a time, as matrix products; only the rows and blocks that the next choice
reads are brought up to date at once. The diagonal of P holds the error of each column, eliminated in turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.reconstruct.gram import factor, inverse_root

PENDING = 128


@dataclass(frozen=True)
class Removal:
    """In which order the blocks of a layer go, and what that costs.

    order: positions in the list of blocks, first removed first.
    error: (len(order),) float64: least ||(W - W')X||^2 / ||W X||^2 with the blocks order[: i + 1] removed.
    """

    order: list[int]
    error: Tensor


def greedy_removal(
    weight: Tensor, gram: Tensor, blocks: Sequence[Sequence[int]], count: int | None = None, step: int = 1
) -> Removal:
    """Removes `count` blocks (all if None) greedily; one pass gives the layer's whole curve error(kept).

    weight: (out, in). gram: H = X^T X (in, in), positive definite (`damped` makes it so; the error is then that of the
    damped H). blocks: column indices of each block, disjoint and of any sizes; columns in no block stay, and adapt.
    step: how many blocks go between two looks at the scores; 1 is exact greedy, more is faster. The errors are exact
    for the order found, whatever the step. The weights for any point of the curve are `least_squares` on
    `remaining(...)`: OBS updates one after another lead to the same (with the same damping).

    If the target is a dense model's output on other inputs, give the weights that `least_squares` finds with all
    columns kept: what they cannot reproduce is the same for each choice of blocks.

    Raises UserError if H is singular, ValueError if blocks overlap. Time O(in^3 + out in^2), and per step
    O(in * 128) and O(blocks * size^3) for sizes above 1; memory 8 * 5 in^2 bytes.
    """
    distinct = {column for block in blocks for column in block}
    if not blocks or not all(map(len, blocks)) or len(distinct) != sum(map(len, blocks)):
        raise ValueError("There must be blocks, disjoint and not empty")
    dense = weight.to(gram.device, torch.float64)
    root = inverse_root(gram)
    inverse, energy = root.T @ root, dense.T @ dense
    del root
    whole = (energy * gram).sum()
    columns, real = _padded(blocks, gram.device)
    eye = torch.eye(columns.shape[1]).to(inverse)
    pairs = real[:, :, None] & real[:, None, :]
    inverse_blocks = torch.where(pairs, inverse[columns[:, :, None], columns[:, None, :]], eye)
    energy_blocks = torch.where(pairs, energy[columns[:, :, None], columns[:, None, :]], 0)
    matrices = _Matrices(inverse, energy, max(PENDING, step * columns.shape[1]))
    order: list[int] = []
    costs: list[Tensor] = []
    goal = len(blocks) if count is None else min(count, len(blocks))
    gone = torch.zeros(len(blocks), dtype=torch.bool, device=gram.device)
    while len(order) < goal:
        scores = _scores(inverse_blocks, energy_blocks).masked_fill(gone, torch.inf)
        chosen = scores.argsort(stable=True)[: min(step, goal - len(order))]
        left, right, cost = matrices.eliminate(columns[chosen][real[chosen]])
        costs += [part.sum() for part in torch.split(cost, real[chosen].sum(1).tolist())]
        order += chosen.tolist()
        gone[chosen] = True
        real[chosen] = False
        inverse_blocks[chosen] = eye
        energy_blocks[chosen] = 0
        across, down = left[:, columns] * real, right[:, columns] * real
        inverse_blocks -= torch.einsum("kni,knj->nij", across, across)
        mixed = torch.einsum("kni,knj->nij", across, down)
        energy_blocks -= mixed + mixed.transpose(1, 2)
    error = torch.stack(costs).cumsum(0) if costs else inverse.new_empty(0)
    return Removal(order, error / whole if whole > 0 else torch.zeros_like(error))


def remaining(size: int, blocks: Sequence[Sequence[int]], removed: Sequence[int]) -> Tensor:
    """The columns of 0 ... size - 1, ascending, that are in none of the `removed` blocks; int64."""
    kept = torch.ones(size, dtype=torch.bool)
    for block in removed:
        kept[list(blocks[block])] = False
    return kept.nonzero()[:, 0]


def _padded(blocks: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Column indices (blocks, longest), and which of them are real: shorter blocks are filled with column 0."""
    longest = max(map(len, blocks))
    columns = torch.tensor([list(block) + [0] * (longest - len(block)) for block in blocks], device=device)
    lengths = torch.tensor([len(block) for block in blocks], device=device)
    return columns, torch.arange(longest, device=device) < lengths[:, None]


def _scores(inverse_blocks: Tensor, energy_blocks: Tensor) -> Tensor:
    """tr(Hinv_MM^-1 S_MM) of each block."""
    if inverse_blocks.shape[1] == 1:
        return (energy_blocks / inverse_blocks)[:, 0, 0]
    return torch.cholesky_solve(energy_blocks, factor(inverse_blocks)).diagonal(dim1=1, dim2=2).sum(1)


class _Matrices:
    """Hinv and S of what remains, with up to `width` columns' updates pending."""

    def __init__(self, inverse: Tensor, energy: Tensor, width: int) -> None:
        self.inverse, self.energy = inverse, energy
        self.left, self.right = inverse.new_empty(width, len(inverse)), inverse.new_empty(width, len(inverse))
        self.filled = 0

    def eliminate(self, members: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """L and U (members, in) of removing the columns `members`, and the error that each adds, in their order."""
        if self.filled + len(members) > len(self.left):
            self._apply()
        left, right = self.left[: self.filled], self.right[: self.filled]
        inverse_rows = self.inverse[members] - left[:, members].T @ left
        energy_rows = self.energy[members] - left[:, members].T @ right - right[:, members].T @ left
        lower = factor(inverse_rows[:, members])
        new_left = torch.linalg.solve_triangular(lower, inverse_rows, upper=False)
        turned = torch.linalg.solve_triangular(lower, energy_rows, upper=False)
        inner = torch.linalg.solve_triangular(lower, turned[:, members].T, upper=False)
        new_right = turned - inner @ new_left / 2
        after = self.filled + len(members)
        self.left[self.filled : after], self.right[self.filled : after] = new_left, new_right
        self.filled = after
        return new_left, new_right, inner.diagonal()

    def _apply(self) -> None:
        left, right = self.left[: self.filled], self.right[: self.filled]
        self.inverse.addmm_(left.T, left, alpha=-1)
        self.energy.addmm_(left.T, right, alpha=-1)
        self.energy.addmm_(right.T, left, alpha=-1)
        self.filled = 0
