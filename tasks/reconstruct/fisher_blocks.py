"""OBS with the empirical Fisher of the loss in place of the Hessian, its inverse held in diagonal blocks.

F = damping I + 1/N sum_i g_i g_i^T over N gradient samples, without what lies between blocks. The inverse is kept up
to date by Woodbury's identity, Finv -= Finv G^T (N I + G Finv G^T)^-1 G Finv for a few samples G, from Finv = I /
damping (Singh & Alistarh, 2020, "WoodFisher"; Kurtic et al., 2022, "The Optimal BERT Surgeon"). The parameters may be
weights, or the gates of units (value 1, gradient dL/dgate), with all heads or neurons of a layer as one block (Kwon et
al., 2022).
"""

import torch
from torch import Tensor


class FisherBlocks:
    """The inverse Fisher of `parameters` numbers, `block` consecutive ones at a time (the last block may be shorter).

    samples: N, the number of gradients that will be added.
    damping: on the diagonal of F, in its unit (a squared gradient); above 0.
    dtype: float64, or float32 for half the memory.

    Memory: parameters * block numbers, 400 bytes a parameter in float64 at oBERT's block of 50: hold one matrix at a
    time. Raises ValueError for sizes or a damping that are not above 0.
    """

    def __init__(
        self,
        parameters: int,
        block: int,
        samples: int,
        damping: float = 1e-7,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        if min(parameters, block, samples) < 1 or damping <= 0:
            raise ValueError("parameters, block and samples are from 1, damping is above 0")
        self.parameters, self.block, self.samples, self.seen = parameters, min(block, parameters), samples, 0
        blocks = -(-parameters // self.block)
        eye = torch.eye(self.block, device=device, dtype=dtype)
        self.inverse = (eye / damping).repeat(blocks, 1, 1)

    def add(self, gradients: Tensor) -> None:
        """Adds gradients (k, parameters), one row a sample or the mean of a batch.

        Time O(k parameters block). Raises ValueError beyond the N samples announced.
        """
        if self.seen + len(gradients) > self.samples:
            raise ValueError(f"{self.seen + len(gradients)} gradients were added and {self.samples} were announced")
        parts = self._split(gradients.detach()).transpose(0, 1)
        along = parts @ self.inverse
        inner = along @ parts.mT + self.samples * torch.eye(len(gradients)).to(along)
        self.inverse -= along.mT @ torch.linalg.solve(inner, along)
        self.seen += len(gradients)

    def saliency(self, values: Tensor) -> Tensor:
        """w^2 / (2 [Finv]_jj) (parameters,): the least rise of the loss if w_j were zero and its block adapted.

        values: (parameters,). Time O(parameters).
        """
        self._check_complete()
        diagonal = self.inverse.diagonal(dim1=1, dim2=2).reshape(-1)[: self.parameters]
        saliency: Tensor = values.to(diagonal).square() / (2 * diagonal)
        return saliency

    def group_saliency(self, values: Tensor, groups: Tensor) -> Tensor:
        """1/2 w_M^T (Finv_MM)^-1 w_M (groups,): the least rise of the loss if a whole group were zero.

        values: (parameters,). groups: indices (groups, size), each row within one block, else ValueError.
        Time O(groups size^3), memory 2 groups size^2 numbers.
        """
        self._check_complete()
        groups = groups.to(self.inverse.device)
        block = groups // self.block
        if (block != block[:, :1]).any():
            raise ValueError(f"A group has to lie within one block of {self.block} parameters")
        inside = groups % self.block
        within = self.inverse[block[:, :1, None], inside[:, :, None], inside[:, None, :]]
        members = values.to(self.inverse)[groups]
        saliency: Tensor = (members * torch.linalg.solve(within, members)).sum(1) / 2
        return saliency

    def update(self, values: Tensor, mask: Tensor) -> Tensor:
        """Values (parameters,) with those outside `mask` zero and the others moved: w - Finv_:M (Finv_MM)^-1 w_M.

        mask: bool (parameters,), True = kept. The result has the type of `values`. Time O(parameters block^2), memory
        2 parameters block numbers.
        """
        self._check_complete()
        mask = mask.to(self.inverse.device)
        gone = self._split((~mask)[None])[0].bool()
        eye = torch.eye(self.block).to(self.inverse)
        within = torch.where(gone[:, :, None] & gone[:, None, :], self.inverse, eye)
        before = self._split(values[None])[0]
        multipliers = torch.linalg.solve(within, before) * gone
        after = before - (self.inverse @ multipliers[:, :, None])[:, :, 0]
        moved: Tensor = after.reshape(-1)[: self.parameters].masked_fill(~mask, 0).to(values)
        return moved

    def _split(self, rows: Tensor) -> Tensor:
        """Rows (k, parameters) as (k, blocks, block), filled with zeros."""
        padding = len(self.inverse) * self.block - self.parameters
        filled = torch.nn.functional.pad(rows.to(self.inverse), (0, padding))
        return filled.view(len(rows), len(self.inverse), self.block)

    def _check_complete(self) -> None:
        if self.seen != self.samples:
            raise ValueError(f"{self.seen} of the {self.samples} announced gradients were added")
