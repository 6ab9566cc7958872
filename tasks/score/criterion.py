"""Importance of units: what a criterion is, and the one pass over the data that feeds it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tasks.core.progress import progress
from tasks.families import family_of
from tasks.families.anatomy import Group
from tasks.text.data import Split
from tasks.text.task import TaskType

Scores = dict[str, Tensor]
"""Importance by "kind.layer", float32, shape (units,)."""


@dataclass(frozen=True)
class Criterion:
    """score(unit) = final(mean over batches of batch(sum over the unit's weights of element(w, g)))."""

    element: Callable[[Tensor, Tensor], Tensor]
    """(weight, gradient of the batch's mean loss) to what is summed, elementwise."""
    batch: Callable[[Tensor], Tensor] = lambda total: total
    final: Callable[[Tensor], Tensor] = lambda mean: mean
    gradients: bool = True
    """Whether it looks at data at all."""


def score(model: PreTrainedModel, criterion: Criterion, split: Split, batch_size: int, task: TaskType) -> Scores:
    """Scores every unit of `model` on the rows of `split`, by the loss of `task`, in eval mode and float32.

    Memory is that of one backward pass: gradients are reduced to a number per unit after each batch.
    """
    model.eval()
    groups = family_of(model.config.model_type).groups(model)
    parameters = dict(model.named_parameters())
    if not criterion.gradients:
        zero = torch.zeros(())
        return {g.name: criterion.final(criterion.batch(_totals(g, parameters, criterion, zero))) for g in groups}
    device = next(model.parameters()).device
    wanted = {cut.tensor for group in groups for cut in group.cuts}
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in wanted)
    sums = {group.name: torch.zeros(group.count, dtype=torch.float64, device=device) for group in groups}
    batches = list(split.by_length(batch_size))
    for number, rows in enumerate(batches):
        batch = {name: torch.from_numpy(array).to(device) for name, array in split.batch(rows).items()}
        task.loss(model(**batch), split, rows).mean().backward()  # type: ignore[no-untyped-call]
        for group in groups:
            sums[group.name] += criterion.batch(_totals(group, parameters, criterion, None))
        model.zero_grad(set_to_none=True)
        progress("batch", number + 1, len(batches))
    model.requires_grad_(True)
    return {name: criterion.final(total / len(batches)).float().cpu() for name, total in sums.items()}


def _totals(group: Group, parameters: dict[str, Tensor], criterion: Criterion, gradient: Tensor | None) -> Tensor:
    total = torch.zeros(group.count, device=parameters[group.cuts[0].tensor].device)
    for cut in group.cuts:
        weight = parameters[cut.tensor]
        slope = weight.grad if gradient is None else gradient
        if slope is not None:
            total += cut.per_unit(criterion.element(weight.detach(), slope)).sum(1)
    return total
