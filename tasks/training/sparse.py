"""Sparse weights during training: zeros that stay, magnitude pruning on a schedule, drop and regrowth.

A mask is True where a weight lives. Weights outside have no gradient, so the optimizer's moments there fade, and are
set to exactly 0 after every step.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tasks.core.errors import UserError
from tasks.families.anatomy import Group
from tasks.modeling.lowest import lowest
from tasks.recipe.cubic import ratio_at
from tasks.training.extra import Extra, Parameters
from tasks.training.units import matrices


class Masked(Extra):
    """Keeps the weights outside its masks at zero; those of the matrices that units of `kinds` have a part in.

    Args:
        kinds: kinds of unit.
        only: names of the matrices that count among those; None: all.
    """

    def __init__(self, kinds: Sequence[str], only: Collection[str] | None = None) -> None:
        self.kinds = kinds
        self.only = only
        self.weights: dict[str, nn.Parameter] = {}
        self.masks: dict[str, Tensor] = {}

    def attach(self, model: nn.Module, parameters: Parameters, groups: Sequence[Group]) -> list[dict[str, Any]]:
        """See `Extra.attach`; gains no parameters."""
        del model
        found = matrices(groups, self.kinds, parameters)
        self.weights = {name: weight for name, weight in found.items() if self.only is None or name in self.only}
        self.masks = {name: self._first_mask(weight.detach()) for name, weight in self.weights.items()}
        return []

    def _first_mask(self, weight: Tensor) -> Tensor:
        """Shape of `weight`."""
        return weight != 0

    @torch.no_grad()
    def gradients(self, step: int, steps: int) -> None:
        """Takes the gradient outside the masks away."""
        del step, steps
        for name, weight in self.weights.items():
            if weight.grad is not None:
                weight.grad.mul_(self.masks[name])

    @torch.no_grad()
    def after_step(self, step: int, steps: int) -> None:
        """Sets the weights outside the masks to zero."""
        del step, steps
        for name, weight in self.weights.items():
            weight.masked_fill_(~self.masks[name], 0.0)

    def sparsity(self) -> float:
        """Share of the weights that is outside the masks."""
        living = sum(int(mask.sum()) for mask in self.masks.values())
        return 1 - living / sum(mask.numel() for mask in self.masks.values())

    def figures(self) -> dict[str, float]:
        """`sparsity`."""
        return {"sparsity": self.sparsity()}

    def state(self) -> dict[str, Tensor]:
        """See `Extra.state`."""
        return dict(self.masks)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """See `Extra.restore`."""
        for name, mask in self.masks.items():
            mask.copy_(state[name])


class FixedZeros(Masked):
    """Weights that are zero at the start stay zero, in whatever pattern they lie (unstructured, 2:4)."""

    name = "fixed_zeros"


class Gradual(Masked):
    """Magnitude pruning inside one training by the cubic schedule (Zhu & Gupta, 2017); what has gone stays away.

    The schedule starts from the zeros that the model has.

    Args:
        sparsity: share of the weights that is zero in the end, exact to one weight (`global`: of all matrices
            together; `layer`: of each matrix).
        kinds: whose matrices are pruned.
        every: steps between two prunings.
        begin: share of the steps after which the first pruning comes.
        end: share of the steps after which the last pruning comes.
        scope: what the magnitudes are compared in.
        only: see `Masked`.
    """

    name = "gradual"

    def __init__(
        self,
        sparsity: float,
        kinds: Sequence[str],
        every: int,
        begin: float = 0.0,
        end: float = 0.7,
        scope: Literal["global", "layer"] = "layer",
        only: Collection[str] | None = None,
    ) -> None:
        super().__init__(kinds, only)
        if not (0 <= sparsity < 1 and 0 <= begin < end <= 1 and every > 0):
            raise UserError(
                f"gradual pruning: sparsity {sparsity}, begin {begin}, end {end}, every {every} given; "
                "allowed are 0 <= sparsity < 1, 0 <= begin < end <= 1 and every >= 1"
            )
        self.final = sparsity
        self.every = every
        self.begin = begin
        self.end = end
        self.scope = scope
        self.done = torch.zeros((), dtype=torch.bool)

    def attach(self, model: nn.Module, parameters: Parameters, groups: Sequence[Group]) -> list[dict[str, Any]]:
        """See `Masked.attach`."""
        super().attach(model, parameters, groups)
        self.gone = {name: int((~mask).sum()) for name, mask in self.masks.items()}
        return []

    @torch.no_grad()
    def after_step(self, step: int, steps: int) -> None:
        """Prunes if it is time, then sets what has gone to zero."""
        last = max(1, round(self.end * steps))
        first = min(last - 1, round(self.begin * steps))
        if step == last or (first <= step < last and (step - first) % self.every == 0):
            self._prune((step - first) / (last - first))
        self.done.fill_(step >= last)
        super().after_step(step, steps)

    def _prune(self, progress: float) -> None:
        sizes = {n: torch.where(self.masks[n], w.abs(), -1.0) for n, w in self.weights.items()}  # the gone go first
        if self.scope == "layer":
            for name, size in sizes.items():
                gone = lowest(size.flatten(), self._count(progress, self.gone[name], size.numel()))
                self.masks[name] = ~gone.view_as(size)
            return
        together = torch.cat([size.flatten() for size in sizes.values()])
        gone = lowest(together, self._count(progress, sum(self.gone.values()), together.numel()))
        start = 0
        for name, size in sizes.items():
            self.masks[name] = ~gone[start : start + size.numel()].view_as(size)
            start += size.numel()

    def _count(self, progress: float, gone: int, total: int) -> int:
        """Zeros that there must be of `total` weights, `gone` of which were zero at the start."""
        return max(gone, round(ratio_at(progress, self.final, gone / total) * total))

    def ready(self) -> bool:
        """When the final sparsity is reached."""
        return bool(self.done)

    def state(self) -> dict[str, Tensor]:
        """See `Extra.state`."""
        return {**super().state(), "done": self.done}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """See `Extra.restore`."""
        super().restore(state)
        self.done.copy_(state["done"])


class Regrowth(Masked):
    """Moves the zeros that the model starts with: RigL (Evci et al., 2020). Each matrix keeps its number of weights.

    Every `every` steps until the share `end` of them, each matrix drops the share rate / 2 * (1 + cos(pi * t / t_end))
    of its living weights, the smallest, and grows as many where the gradient is largest among all that are not alive
    then; new ones start at 0. Unlike there, the optimizer's step is taken in such a step too, by the new mask.
    """

    name = "regrowth"

    def __init__(
        self,
        kinds: Sequence[str],
        every: int,
        rate: float = 0.3,
        end: float = 0.75,
        only: Collection[str] | None = None,
    ) -> None:
        super().__init__(kinds, only)
        if not (0 < rate <= 1 and 0 < end <= 1 and every > 0):
            raise UserError(
                f"regrowth: rate {rate}, end {end}, every {every} given; allowed are 0 < rate <= 1, 0 < end <= 1 "
                "and every >= 1"
            )
        self.every = every
        self.rate = rate
        self.end = end
        self.settled = torch.zeros((), dtype=torch.bool)

    def attach(self, model: nn.Module, parameters: Parameters, groups: Sequence[Group]) -> list[dict[str, Any]]:
        """See `Masked.attach`."""
        super().attach(model, parameters, groups)
        if self.sparsity() == 0:
            raise UserError("regrowth: no weight of the model is zero; prune it to its sparsity first")
        return []

    @torch.no_grad()
    def gradients(self, step: int, steps: int) -> None:
        """Drops and grows if it is time, then as `Masked`."""
        last = self.end * steps
        if step and step % self.every == 0 and step < last:
            share = self.rate / 2 * (1 + math.cos(math.pi * step / last))
            for name, weight in self.weights.items():
                if weight.grad is not None:
                    self.masks[name] = _regrown(weight, weight.grad, self.masks[name], share)
        self.settled.fill_(step + self.every - step % self.every >= last)
        super().gradients(step, steps)

    def ready(self) -> bool:
        """When the zeros have found their last place."""
        return bool(self.settled)

    def state(self) -> dict[str, Tensor]:
        """See `Extra.state`."""
        return {**super().state(), "settled": self.settled}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """See `Extra.restore`."""
        super().restore(state)
        self.settled.copy_(state["settled"])


def _regrown(weight: Tensor, gradient: Tensor, mask: Tensor, share: float) -> Tensor:
    dropped = round(share * int(mask.sum()))
    gone = lowest(torch.where(mask, weight.abs(), math.inf).flatten(), dropped).view_as(mask)
    stays = mask & ~gone
    return stays | lowest(torch.where(stays, math.inf, -gradient.abs()).flatten(), dropped).view_as(mask)
