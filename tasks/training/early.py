"""The weights as they are early in a training, to which what stays after pruning can be taken back (rewinding)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from tasks.core.files import whole
from tasks.families.anatomy import Group
from tasks.modeling.checkpoint import save
from tasks.training.extra import Extra, Parameters
from tasks.training.launch import is_first


class Early(Extra):
    """Keeps the model after `step` steps as a checkpoint in `directory` (0: as it starts); the result is no earlier."""

    name = "early"

    def __init__(self, step: int, directory: Path) -> None:
        self.step = step
        self.directory = directory
        self.reached = False

    def attach(self, model: nn.Module, parameters: Parameters, groups: Sequence[Group]) -> list[dict[str, Any]]:
        """See `Extra.attach`; gains no parameters."""
        del parameters, groups
        self.model = model
        if self.step == 0:
            self._keep()
        return []

    def after_step(self, step: int, steps: int) -> None:
        """Keeps the model if it is time."""
        del steps
        self.reached = step >= self.step
        if step == self.step:
            self._keep()

    def ready(self) -> bool:
        """From then on."""
        return self.reached

    def _keep(self) -> None:
        if is_first():
            with whole(self.directory) as out:
                save(self.model, out)
