"""Movement: importance of a unit by whether training moves its weights away from zero (Sanh, Wolf & Rush, 2020)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tasks.families.anatomy import Group
from tasks.training.extra import Extra, Parameters
from tasks.training.units import matrices, of_kinds, parts


class Movement(Extra):
    """Adds up S = - sum over steps of w * dL/dw, before clipping, per unit, and per weight if asked.

    Memory is a number per unit; with `weights`, that of the weights once more.
    """

    name = "movement"

    def __init__(self, kinds: Sequence[str], weights: bool = False) -> None:
        self.kinds = kinds
        self.weights = weights

    def attach(self, model: nn.Module, parameters: Parameters, groups: Sequence[Group]) -> list[dict[str, Any]]:
        """See `Extra.attach`; gains no parameters."""
        del model
        chosen = of_kinds(groups, self.kinds)
        self.units = {group.name: parts(group, parameters) for group in chosen}
        self.sums = {
            g.name: torch.zeros(g.count, dtype=torch.float64, device=parameters[g.cuts[0].tensor].device)
            for g in chosen
        }
        self.matrices = matrices(groups, self.kinds, parameters) if self.weights else {}
        self.moved = {name: torch.zeros_like(parameter.detach()) for name, parameter in self.matrices.items()}
        return []

    @torch.no_grad()
    def gradients(self, step: int, steps: int) -> None:
        """Adds this step's -w * dL/dw."""
        del step, steps
        for name, unit in self.units.items():
            for parameter, cut in unit:
                if parameter.grad is not None:
                    self.sums[name] -= cut.per_unit(parameter * parameter.grad).sum(1)
        for name, parameter in self.matrices.items():
            if parameter.grad is not None:
                self.moved[name].addcmul_(parameter, parameter.grad, value=-1)

    def figures(self) -> dict[str, float]:
        """`away`, the share of units whose weights have moved away from zero so far."""
        scores = torch.cat([total.cpu() for total in self.sums.values()])
        return {"away": float((scores > 0).double().mean())}

    def scores(self) -> dict[str, Tensor]:
        """S of every unit by "kind.layer", float32, shape (units,); the larger the more important."""
        return {name: total.float().cpu() for name, total in self.sums.items()}

    def weight_scores(self) -> dict[str, Tensor]:
        """S of every weight by tensor, float32, of its shape; empty unless `weights` was asked for."""
        return {name: total.float().cpu() for name, total in self.moved.items()}

    def state(self) -> dict[str, Tensor]:
        """See `Extra.state`."""
        unit = {f"unit/{name}": total for name, total in self.sums.items()}
        return {**unit, **{f"weight/{name}": total for name, total in self.moved.items()}}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """See `Extra.restore`."""
        for name, total in self.sums.items():
            total.copy_(state[f"unit/{name}"])
        for name, total in self.moved.items():
            total.copy_(state[f"weight/{name}"])
