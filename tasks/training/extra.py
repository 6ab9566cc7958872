"""What a training can do besides lowering its loss: penalties, gates, masks, measurements along the way."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tasks.families import family_of
from tasks.families.anatomy import Group
from tasks.training.state import History

Parameters = Mapping[str, nn.Parameter]
"""Parameters by name, tied ones under each of their names."""


class Extra:
    """Takes part in every optimizer step of a training; each method does nothing unless overridden.

    Every process of a training calls the same methods with the same weights and gradients, so nothing in it may depend
    on the process. Randomness comes from a seed and the step's number, so that a resume needs no state for it.
    """

    name: str
    """Its curve's key in the history; one extra of a name in a training."""

    def attach(self, model: nn.Module, parameters: Parameters, groups: Sequence[Group]) -> list[dict[str, Any]]:
        """Meets the model, on its device, before the first step and before a resume puts weights back.

        Args:
            model: it may gain parameters; those must take part in every forward pass.
            parameters: as they were before any extra was attached.
            groups: the model's units, likewise.

        Returns:
            Groups for the optimizer with the gained parameters: `params`, `peak` (learning rate), `weight_decay`.
        """
        del model, parameters, groups
        return []

    def before_step(self, step: int, steps: int) -> None:
        """Before the forward passes of step number `step` (from 0) of `steps`."""

    def penalty(self) -> Tensor | None:
        """What is added to the loss, once a step however its batch is split; shape ()."""
        return None

    def gradients(self, step: int, steps: int) -> None:
        """When every parameter has the whole step's gradient, penalties included, not yet clipped."""

    def after_step(self, step: int, steps: int) -> None:
        """When the optimizer has changed the weights; `step` steps are done."""

    def ready(self) -> bool:
        """Whether the weights may now be the training's result; those of its last step always may."""
        return True

    def figures(self) -> dict[str, float]:
        """What its curve shows at this step."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold beside the model's parameters."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Takes back what `state` gave; tensors may be on another device."""


class Extras:
    """The extras of one training, driven by its loop."""

    def __init__(self, extras: Sequence[Extra], model: PreTrainedModel) -> None:
        names = [extra.name for extra in extras]
        if len(set(names)) < len(names):
            raise ValueError(f"extras of one training need different names, not {', '.join(names)}")
        self.extras = extras
        self.optimized: list[dict[str, Any]] = []
        if extras:
            parameters: Parameters = dict(model.named_parameters(remove_duplicate=False))
            groups = family_of(model.config.model_type).groups(model)
            for extra in extras:
                self.optimized += extra.attach(model, parameters, groups)
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def before_step(self, step: int, steps: int) -> None:
        """See `Extra.before_step`."""
        for extra in self.extras:
            extra.before_step(step, steps)

    def gradients(self, step: int, steps: int) -> None:
        """Adds the gradients of all penalties, outside the data-parallel wrapper, then see `Extra.gradients`."""
        penalties = [extra.penalty() for extra in self.extras]
        given = [penalty for penalty in penalties if penalty is not None and penalty.requires_grad]
        if given:
            slopes = torch.autograd.grad(torch.stack(given).sum(), self.trained, allow_unused=True)
            for parameter, slope in zip(self.trained, slopes, strict=True):
                if slope is not None:
                    parameter.grad = slope if parameter.grad is None else parameter.grad.add_(slope)
        for extra in self.extras:
            extra.gradients(step, steps)

    def after_step(self, step: int, steps: int) -> None:
        """See `Extra.after_step`."""
        for extra in self.extras:
            extra.after_step(step, steps)

    def ready(self) -> bool:
        """Whether every extra lets the present weights be the result."""
        return all(extra.ready() for extra in self.extras)

    def log(self, history: History, epoch: float) -> None:
        """Adds each extra's figures to its curve in `history.extras`."""
        for extra in self.extras:
            figures = extra.figures()
            if figures:
                entry = {"step": history.step, "epoch": epoch, **figures}
                history.extras.setdefault(extra.name, []).append(entry)

    def state(self) -> dict[str, Tensor]:
        """Every extra's state, by "name/key"."""
        return {f"{extra.name}/{key}": value for extra in self.extras for key, value in extra.state().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Gives each extra its state back."""
        for extra in self.extras:
            prefix = f"{extra.name}/"
            extra.restore({key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)})
