"""L0 regularisation: a hard-concrete gate on every unit's output (Louizos, Welling & Kingma, 2018).

trained = Gates(("head", "neuron"), Price(0.5), seed)
fit(model, ..., extras=[trained])
smaller = shrink(model, trained.fold(model))
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tasks.core.errors import UserError
from tasks.families.anatomy import LAYER, WHOLE, WIDTH, Cut, Group, Kept
from tasks.training.extra import Extra, Parameters
from tasks.training.pressure import Pressure
from tasks.training.units import of_kinds, size

TEMPERATURE = 2 / 3
LOW, HIGH = -0.1, 1.1
"""The concrete distribution is stretched to this interval, then cut to 0 and 1."""


class HardConcrete(nn.Module):
    """Gates on the units of a group: the weight that the model sees is the trained one times its unit's gate."""

    noise: Tensor

    def __init__(self, units: int, axis: int, start: float, like: Tensor) -> None:
        super().__init__()
        self.axis = axis
        self.log_alpha = nn.Parameter(like.new_full((units,), start))
        self.register_buffer("noise", like.new_full((units,), 0.5), persistent=False)

    def gates(self) -> Tensor:
        """Shape (units,): in training by `noise`, which is uniform on (0, 1), else the deterministic gate."""
        if self.training:
            sample = torch.sigmoid((torch.logit(self.noise) + self.log_alpha) / TEMPERATURE)
        else:
            sample = torch.sigmoid(self.log_alpha)
        return (sample * (HIGH - LOW) + LOW).clamp(0, 1)

    def open(self) -> Tensor:
        """Probability of each gate not to be 0, shape (units,)."""
        return torch.sigmoid(self.log_alpha - TEMPERATURE * math.log(-LOW / HIGH))

    def forward(self, weight: Tensor) -> Tensor:
        """`weight` with each unit's entries, equally many in a row along the axis, times its gate."""
        gates = self.gates()
        shape = [1] * weight.ndim
        shape[self.axis] = -1
        return weight * gates.repeat_interleave(weight.shape[self.axis] // len(gates)).view(shape)


class Gates(Extra):
    """Gates on all units of some kinds, trained along with the weights; only the training's end is its result.

    A gate multiplies the unit's part of its group's last tensor, the one that it gives its output by; of a sublayer,
    all of its output projection. The noise of a step is the same however its batch is split over processes and parts.

    Args:
        kinds: kinds of unit that get gates: units of which any number may stay in a layer, and sublayers.
        pressure: gets the expected open share, sum of P(open) * weights of the unit over all weights of gated units.
        seed: of the noise.
        learning_rate: peak for log_alpha, on the training's schedule.
        start: log_alpha of every gate at first; from 2.4 on the deterministic gate is 1, so the model is as it was.
    """

    name = "gates"

    def __init__(
        self, kinds: Sequence[str], pressure: Pressure, seed: int, learning_rate: float = 0.1, start: float = 3.0
    ) -> None:
        self.kinds = kinds
        self.pressure = pressure
        self.seed = seed
        self.learning_rate = learning_rate
        self.start = start
        self.step, self.steps = 0, 1

    def attach(self, model: nn.Module, parameters: Parameters, groups: Sequence[Group]) -> list[dict[str, Any]]:
        """See `Extra.attach`; gains a log_alpha per unit.

        Raises:
            UserError: the model has no unit of a kind, or its units cannot have gates.
        """
        self.groups = groups
        self.gated = _gateable(groups, self.kinds)
        self.sizes, self.gates = [], []
        for group in self.gated:
            cuts = _outputs(group)
            gate = HardConcrete(group.count, cuts[-1].axis, self.start, parameters[cuts[-1].tensor])
            gate.train(model.training)
            for cut in cuts:
                path, _, name = cut.tensor.rpartition(".")
                parametrize.register_parametrization(model.get_submodule(path), name, gate)
            self.sizes.append(_weights(group, parameters))
            self.gates.append(gate)
        alphas = [gate.log_alpha for gate in self.gates]
        return [{"params": alphas, "weight_decay": 0.0, "peak": self.learning_rate}]

    def before_step(self, step: int, steps: int) -> None:
        """Draws the step's noise."""
        self.step, self.steps = step, steps
        rng = np.random.default_rng((self.seed, step))
        for gate in self.gates:
            noise = rng.uniform(1e-6, 1 - 1e-6, len(gate.noise)).astype(np.float32)
            gate.noise.copy_(torch.from_numpy(noise))

    def penalty(self) -> Tensor:
        """See `Extra.penalty`."""
        return self.pressure.penalty(self._share([gate.open() for gate in self.gates]), self.step, self.steps)

    def after_step(self, step: int, steps: int) -> None:
        """Moves the pressure on."""
        del step, steps
        self.pressure.after_step()

    def ready(self) -> bool:
        """Never before the end: an earlier epoch has fewer gates shut, and so better quality."""
        return False

    def figures(self) -> dict[str, float]:
        """Shares of the gated weights: `expected` to be open; with deterministic gates, `open` and, of 0 < gate < 1,
        `partial`.
        """
        with torch.no_grad():
            expected = self._share([gate.open() for gate in self.gates])
            values = self._deterministic()
            hard = self._share([(value > 0).float() for value in values])
            partial = self._share([((value > 0) & (value < 1)).float() for value in values])
            penalty = self.pressure.penalty(expected, self.step, self.steps)
        figures = {"penalty": float(penalty), "expected": float(expected), "open": float(hard)}
        return {**figures, "partial": float(partial), **self.pressure.figures()}

    def scores(self) -> dict[str, Tensor]:
        """How far each gate is open by "kind.layer", float32, shape (units,).

        0: shut; up to 1: the deterministic gate; above 1: open, and the further the more it takes to shut it.
        """
        with torch.no_grad():
            values = [torch.sigmoid(gate.log_alpha) * (HIGH - LOW) + LOW for gate in self.gates]
        return {g.name: v.clamp(min=0).float().cpu() for g, v in zip(self.gated, values, strict=True)}

    def state(self) -> dict[str, Tensor]:
        """See `Extra.state`; log_alpha is among the model's parameters."""
        return self.pressure.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """See `Extra.restore`."""
        self.pressure.restore(state)

    def fold(self, model: nn.Module) -> Kept:
        """Multiplies the deterministic gates into the weights, takes the gates off and says which units stay.

        The model's outputs in eval mode are as before. A sublayer goes if its gate is shut; other groups whose gates
        are all shut keep the unit nearest to open, with no output.
        """
        stay: dict[int, list[int]] = {}
        for group, gate, value in zip(self.gated, self.gates, self._deterministic(), strict=True):
            nearest = [] if group.kind in WHOLE else [int(gate.log_alpha.argmax())]
            stay[id(group)] = value.nonzero().flatten().tolist() or nearest
            gate.eval()
        for tensor in dict.fromkeys(cut.tensor for group in self.gated for cut in _outputs(group)):
            path, _, name = tensor.rpartition(".")
            parametrize.remove_parametrizations(model.get_submodule(path), name, leave_parametrized=True)
        kept: dict[str, list[list[int]]] = {}
        for group in self.groups:
            kept.setdefault(group.kind, []).append(stay.get(id(group), list(range(group.count))))
        return kept

    def _share(self, values: Sequence[Tensor]) -> Tensor:
        """Mean over gated units, each with the weight of its size; shape ()."""
        total = sum(size * len(value) for size, value in zip(self.sizes, values, strict=True))
        return torch.stack([v.sum() * (size / total) for size, v in zip(self.sizes, values, strict=True)]).sum()

    def _deterministic(self) -> list[Tensor]:
        with torch.no_grad():
            return [((torch.sigmoid(g.log_alpha) * (HIGH - LOW)) + LOW).clamp(0, 1) for g in self.gates]


def _outputs(group: Group) -> Sequence[Cut]:
    """Where its gates stand."""
    return group.cuts if group.kind in WHOLE else group.cuts[-1:]


def _weights(group: Group, parameters: Parameters) -> int:
    """Weights that go with one unit."""
    if group.kind not in WHOLE:
        return size(group, parameters)
    inside = tuple(f"{path}." for path in group.modules)
    return sum(parameter.numel() for name, parameter in parameters.items() if name.startswith(inside))


def _gateable(groups: Sequence[Group], kinds: Sequence[str]) -> list[Group]:
    chosen = of_kinds(groups, kinds)
    refused = {g.kind for g in groups if g.balance > 1 or g.kind in (LAYER, WIDTH)}
    if wrong := sorted(refused & set(kinds)):
        allowed = ", ".join(sorted({group.kind for group in groups} - refused))
        raise UserError(
            f"gates: {', '.join(wrong)} given, this model can have gates on {allowed}. Query heads that share keys and "
            "values must stay in equal numbers, which gates do not promise (take kv_group); a layer is its attention "
            "and its ffn; the width has no output of its own to stand on. Name other kinds in prune.kinds, or another "
            "score.criterion"
        )
    return chosen
