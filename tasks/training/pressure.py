"""What pushes gates shut: a fixed price per open share, or multipliers that hold a target share."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor


class Pressure(Protocol):
    """Turns the expected open share of the gated weights into a penalty."""

    def penalty(self, share: Tensor, step: int, steps: int) -> Tensor:
        """Penalty at step number `step` (from 0) of `steps`; shape ()."""

    def after_step(self) -> None:
        """The optimizer has used the gradient of the last penalty."""

    def figures(self) -> dict[str, float]:
        """What its curve shows."""

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Takes it back."""


class Price:
    """`strength` * open share (Louizos, Welling & Kingma, 2018)."""

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def penalty(self, share: Tensor, step: int, steps: int) -> Tensor:
        """See `Pressure`."""
        del step, steps
        return self.strength * share

    def after_step(self) -> None:
        """See `Pressure`."""

    def figures(self) -> dict[str, float]:
        """See `Pressure`."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """See `Pressure`."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """See `Pressure`."""


class Target:
    """Augmented Lagrangian for closing the share `closed` of the gated weights (Wang, Wohlwend & Lei, 2020).

    penalty = a * gap + b * gap^2 with gap = open share - (1 - goal). The multipliers start at a = 0 and b = `square`
    and rise by gradient ascent, a by rate * gap and b by rate * gap^2 a step. The goal rises linearly from 0 to
    `closed` over the share `warmup` of the steps.

    There both start at 0, and the share swings around its goal in a short training: a goes on growing until the gates
    have caught up. b > 0 damps that.
    """

    def __init__(self, closed: float, warmup: float = 0.5, rate: float = 0.1, square: float = 20.0) -> None:
        self.closed = closed
        self.warmup = warmup
        self.rate = rate
        self.goal = 0.0
        self.gap = torch.zeros(())
        self.multipliers = torch.tensor([0.0, square])

    def penalty(self, share: Tensor, step: int, steps: int) -> Tensor:
        """See `Pressure`."""
        rise = steps * self.warmup
        self.goal = self.closed * (min(1.0, step / rise) if rise else 1.0)
        gap = share - (1 - self.goal)
        self.gap = gap.detach()
        return (self.multipliers.to(share.device) * torch.stack([gap, gap**2])).sum()

    def after_step(self) -> None:
        """Gradient ascent of the multipliers, at the gap that the weights' gradient was taken at."""
        self.multipliers = self.multipliers.to(self.gap.device) + self.rate * torch.stack([self.gap, self.gap**2])

    def figures(self) -> dict[str, float]:
        """`goal`, the closed share aimed at now, and the `linear` and `square` multipliers."""
        linear, square = self.multipliers.tolist()
        return {"goal": self.goal, "linear": linear, "square": square}

    def state(self) -> dict[str, Tensor]:
        """See `Pressure`."""
        return {"multipliers": self.multipliers}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """See `Pressure`."""
        self.multipliers = state["multipliers"]
