"""Importance of units: what a criterion is, and the passes over the data that feed it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tasks.core.progress import progress
from tasks.families import family_of
from tasks.families.anatomy import Group
from tasks.modeling.matrices import Matrix, matrices
from tasks.text.data import Split
from tasks.text.task import TaskType

Scores = dict[str, Tensor]
"""Importance by "kind.layer", float32, shape (units,); of single weights by "weight.tensor", of the tensor's shape."""


@dataclass(frozen=True)
class Sample:
    """A model, and the rows that its units are judged on."""

    model: PreTrainedModel
    split: Split
    batch_size: int
    task: TaskType
    seed: int = 0
    weights: bool = False
    """Whether single weights are scored too."""

    @property
    def groups(self) -> list[Group]:
        """Every group of units."""
        return family_of(self.model.config.model_type).groups(self.model)

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The model's, by name."""
        return dict(self.model.named_parameters())

    @property
    def matrices(self) -> dict[str, Matrix]:
        """The matrices of its layers, by name."""
        return {matrix.tensor: matrix for matrix in matrices(self.model)}

    def batches(self) -> list[dict[str, Tensor]]:
        """All rows, in batches of like length, on the model's device."""
        device = self.model.device
        batches = (self.split.batch(rows) for rows in self.split.by_length(self.batch_size))
        return [{name: torch.from_numpy(array).to(device) for name, array in batch.items()} for batch in batches]

    def slopes(self) -> Iterator[int]:
        """One backward pass for each batch, in eval mode and float32: yields its rows' number with `grad` filled in.

        Memory is that of one backward pass.
        """
        self.model.eval()
        wanted = {cut.tensor for group in self.groups for cut in group.cuts} | set(self.matrices)
        for name, parameter in self.parameters.items():
            parameter.requires_grad_(name in wanted)
        rows = list(self.split.by_length(self.batch_size))
        for number, (chosen, batch) in enumerate(zip(rows, self.batches(), strict=True)):
            self.task.loss(self.model(**batch), self.split, chosen).mean().backward()  # type: ignore[no-untyped-call]
            yield len(chosen)
            self.model.zero_grad(set_to_none=True)
            progress("batch", number + 1, len(rows))
        self.model.requires_grad_(True)


Criterion = Callable[[Sample], Scores]
"""Scores every unit that it can tell something of."""


def by_gradient(
    element: Callable[[Tensor, Tensor], Tensor], batch: Callable[[Tensor], Tensor] = lambda total: total
) -> Criterion:
    """score(unit) = mean over batches of batch(sum over the unit's weights of element(w, dL/dw)).

    L is the mean loss of a batch. Gradients are reduced to a number per unit after each batch.
    """

    def criterion(sample: Sample) -> Scores:
        parameters, groups, device = sample.parameters, sample.groups, sample.model.device
        sums = {group.name: torch.zeros(group.count, dtype=torch.float64, device=device) for group in groups}
        single = {f"weight.{n}": torch.zeros_like(parameters[n]) for n in sample.matrices} if sample.weights else {}
        batches = 0
        for _ in sample.slopes():
            batches += 1
            for group in groups:
                total = torch.zeros(group.count, device=device)
                for cut in group.cuts:
                    slope = parameters[cut.tensor].grad
                    if slope is not None:
                        total += cut.per_unit(element(parameters[cut.tensor].detach(), slope)).sum(1)
                sums[group.name] += batch(total)
            for name, total in single.items():
                parameter = parameters[name.partition(".")[2]]
                if parameter.grad is not None:
                    total += batch(element(parameter.detach(), parameter.grad))
        return {name: (total / batches).float().cpu() for name, total in {**sums, **single}.items()}

    return criterion


def by_weight(element: Callable[[Tensor], Tensor]) -> Criterion:
    """score(unit) = sum over the unit's weights of element(w); a single weight scores |w|. Looks at no data."""

    def criterion(sample: Sample) -> Scores:
        parameters = {name: parameter.detach() for name, parameter in sample.parameters.items()}
        scores = {
            group.name: sum((cut.per_unit(element(parameters[cut.tensor])).sum(1) for cut in group.cuts), _ZERO)
            for group in sample.groups
        }
        if sample.weights:
            scores |= {f"weight.{name}": parameters[name].abs() for name in sample.matrices}
        return {name: score.float().cpu() for name, score in scores.items()}

    return criterion


_ZERO = torch.zeros(())
