"""Sensitivity: what a model loses when one group alone keeps fewer units."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from tasks.allocate.levels import CURVES
from tasks.allocate.units import Units, units_of
from tasks.core.files import write_json
from tasks.core.progress import progress
from tasks.families import family_of
from tasks.families.anatomy import WHOLE, WIDTH, Group
from tasks.modeling.checkpoint import load
from tasks.modeling.inference import device, forward, logits
from tasks.modeling.matrices import Matrix, layer_matrices
from tasks.modeling.shrink import zero
from tasks.recipe.pruning import Prune
from tasks.reconstruct.fit import aimed, fit, nothing
from tasks.reconstruct.layerwise import Stream, batched
from tasks.score.trained import SCORES
from tasks.text.data import Split, read_split
from tasks.text.registry import read_task
from tasks.text.task import TaskType

LEVELS = 12
"""Numbers of units tried of each group, denser where few stay, the full one among them."""


def measure(model: Path, prepared: Path, settings: Prune, seed: int, scores: Path) -> None:
    """Writes sensitivity.json beside the scores: of every group that is pruned, the loss by number of units kept.

    Args:
        model: the checkpoint that was scored.
        settings: of the pruning that it is for.
        scores: out of the score stage; the checkpoint in it, where there is one, takes the place of `model`.
    """
    source = load(scores / "model" if (scores / "model").is_dir() else model).to(device())
    importance = load_file(scores / SCORES)
    groups = [group for group in family_of(source.config.model_type).groups(source) if group.kind in settings.units]
    units = {g.name: units_of(g, importance, settings.align) for g in groups if g.name in importance}
    sample = read_split(prepared, "train", model).sample(settings.rows, seed)
    looked = sample.take(range(0, len(sample), -(-len(sample) // settings.sensitivity_rows)))
    damping = settings.damping if settings.reconstruct else None
    measured = Sensitivity(source, looked, settings.batch_size, read_task(prepared), damping)(units)
    write_json(scores / CURVES, measured)


class Sensitivity:
    """Measures losses as the mean over rows of KL(model as it is || model with the group pruned).

    Of causal models, whose outputs are too large to keep, it is the rise of the mean loss.

    Args:
        model: left as it is, in eval mode.
        damping: of the least-squares fit of what stays; None: nothing is refitted.
    """

    def __init__(
        self, model: PreTrainedModel, split: Split, batch_size: int, task: TaskType, damping: float | None
    ) -> None:
        self.model, self.split, self.task, self.damping = model, split, task, damping
        self.batch_size = batch_size
        self.rows = list(split.by_length(batch_size))
        self.base = 0.0
        self.teacher: Tensor | None = None

    def __call__(self, units: Mapping[str, Units]) -> dict[str, dict[int, float]]:
        """By group, the loss at some numbers of units kept; 0 for all of them."""
        if not self.task.causal:
            self.teacher = torch.from_numpy(logits(forward(self.model), self.split, self.batch_size))
        family = family_of(self.model.config.model_type)
        groups = {group.name: group for group in family.groups(self.model) if group.name in units}
        stream = Stream(self.model, batched(self.split, self.batch_size, self.model.device))
        if self.task.causal:
            self.base = self._loss(stream, 0)
        found: dict[str, dict[int, float]] = {}
        for number, layer in enumerate(stream.layers):
            matrices = {matrix.tensor: matrix for matrix in layer_matrices(family, number, layer)}
            for group in (group for group in groups.values() if group.layer == number):
                found[group.name] = self._curve(group, units[group.name], matrices, stream, layer)
                progress("group", len(found), len(groups))
            stream.advance(number, layer)
        return found

    def _curve(
        self, group: Group, unit: Units, matrices: Mapping[str, Matrix], stream: Stream, layer: Any
    ) -> dict[int, float]:
        parameters = dict(self.model.named_parameters())
        before = {cut.tensor: parameters[cut.tensor].detach().clone() for cut in group.cuts}
        matrix = matrices.get(group.cuts[-1].tensor) if group.kind not in (*WHOLE, WIDTH) else None
        sums = None
        if matrix is not None and self.damping is not None:
            if matrix.bias is not None:
                name = matrix.tensor.removesuffix("weight") + "bias"
                before[name] = matrix.bias.detach().clone()
            sums = nothing(matrix, outputs=False)
            for batch, seen in enumerate(stream.inputs(group.layer, layer, [matrix])):
                sums[batch % 2].add(seen[matrix.tensor])
            sums = aimed(matrix, sums)
        losses = {}
        for level in unit.levels(LEVELS).tolist():
            kept = unit.best(level)
            if len(kept) < group.count:
                if matrix is not None and sums is not None and kept:
                    stay = torch.zeros(matrix.width, dtype=torch.bool)
                    stay[matrix.columns(group.cuts[-1], kept)] = True
                    fit(matrix, sums, stay, self.damping or 0.0)
                else:
                    gone = sorted(set(range(group.count)) - set(kept))
                    for cut in group.cuts:
                        zero(parameters[cut.tensor].data, cut, gone)
            losses[level] = self._loss(stream, group.layer) if len(kept) < group.count else 0.0
            with torch.no_grad():
                for name, value in before.items():
                    parameters[name].copy_(value)
        return losses

    @torch.no_grad()
    def _loss(self, stream: Stream, layer: int) -> float:
        """Of the model as it is; layers below `layer` are as in the stream, and not run."""
        total = torch.zeros((), dtype=torch.float64)
        for number, rows in enumerate(self.rows):
            batch = {k: torch.from_numpy(v).to(self.model.device) for k, v in self.split.batch(rows).items()}
            with stream.below(layer, number):
                outputs = self.model(**batch)
            if self.teacher is None:
                losses = self.task.loss(outputs, self.split, rows)
            else:
                taught = self.teacher[torch.from_numpy(rows)].to(self.model.device)
                losses = self.task.soft_loss(outputs, taught, self.split, rows, 1.0)
            total += losses.double().sum().cpu()
        return float(total) / len(self.split) - self.base
