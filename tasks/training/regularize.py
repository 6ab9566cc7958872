"""Penalties that make weights or whole units small during training, so that they can be removed cheaply after it.

They are part of the loss, so they go through the optimizer's scaling and add to its (decoupled) weight decay.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tasks.families.anatomy import Group
from tasks.training.extra import Extra, Parameters
from tasks.training.units import matrices, of_kinds, parts, size

SMALL = 1e-3
"""A weight, or a unit's root mean square weight, below this is counted as small in the curve."""


class _Norm(Extra):
    def __init__(self, strength: float, kinds: Sequence[str], measure: Callable[[Tensor], Tensor]) -> None:
        self.strength = strength
        self.kinds = kinds
        self.measure = measure
        self.weights: list[nn.Parameter] = []

    def attach(self, model: nn.Module, parameters: Parameters, groups: Sequence[Group]) -> list[dict[str, Any]]:
        del model
        self.weights = list(matrices(groups, self.kinds, parameters).values())
        return []

    def penalty(self) -> Tensor:
        return self.strength * torch.stack([self.measure(weight).sum() for weight in self.weights]).sum()

    def figures(self) -> dict[str, float]:
        with torch.no_grad():
            small = sum(int((weight.abs() < SMALL).sum()) for weight in self.weights)
            total = sum(weight.numel() for weight in self.weights)
            return {"penalty": float(self.penalty()), "small": small / total}


class L1(_Norm):
    """strength * sum |w| over the matrices that units of `kinds` have a part in (Tibshirani, 1996)."""

    name = "l1"

    def __init__(self, strength: float, kinds: Sequence[str]) -> None:
        super().__init__(strength, kinds, torch.abs)


class L2(_Norm):
    """strength * sum w^2 over the matrices that units of `kinds` have a part in; apart from weight decay."""

    name = "l2"

    def __init__(self, strength: float, kinds: Sequence[str]) -> None:
        super().__init__(strength, kinds, torch.square)


class GroupLasso(Extra):
    """strength * sum over units g of sqrt(|g|) * ||w_g||_2 (Yuan & Lin, 2006), |g| weights in all a unit's tensors."""

    name = "group_lasso"

    def __init__(self, strength: float, kinds: Sequence[str]) -> None:
        self.strength = strength
        self.kinds = kinds

    def attach(self, model: nn.Module, parameters: Parameters, groups: Sequence[Group]) -> list[dict[str, Any]]:
        """See `Extra.attach`; gains no parameters."""
        del model
        chosen = of_kinds(groups, self.kinds)
        self.units = [parts(group, parameters) for group in chosen]
        self.roots = [math.sqrt(size(group, parameters)) for group in chosen]
        return []

    def norms(self) -> list[Tensor]:
        """||w_g||_2 of every unit, group by group, shape (units,)."""
        return [_l2(torch.stack([_l2(cut.per_unit(w).T) for w, cut in unit])) for unit in self.units]

    def penalty(self) -> Tensor:
        """See `Extra.penalty`."""
        sums = [root * norms.sum() for root, norms in zip(self.roots, self.norms(), strict=True)]
        return self.strength * torch.stack(sums).sum()

    def figures(self) -> dict[str, float]:
        """`penalty`, and the share of units that are `small`."""
        with torch.no_grad():
            norms = self.norms()
            small = sum(int((n / root < SMALL).sum()) for n, root in zip(norms, self.roots, strict=True))
            return {"penalty": float(self.penalty()), "small": small / sum(len(n) for n in norms)}


def _l2(values: Tensor) -> Tensor:
    """L2 norm over the first axis, with gradient 0 where it is 0."""
    norm: Tensor = torch.linalg.vector_norm(values, dim=0)
    return norm
