"""Optimal Brain Surgeon: what removing a unit costs when the others make up for it.

`OBS` judges by the output of the matrix that joins the units, with the Hessian H = X^T X of its inputs: units are
removed greedily, the cheapest first, and a unit scores what its removal adds to the output's relative error
(`tasks/reconstruct/structured.py`; Kurtic, Frantar & Alistarh, 2023, "ZipLM"). `OBS_FISHER` judges by the loss, with
the empirical Fisher of the gates of a group's units as one block (Kwon et al., 2022; Kurtic et al., 2022, "oBERT").
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tasks.reconstruct.fisher_blocks import FisherBlocks
from tasks.reconstruct.gram import Gram, damped
from tasks.reconstruct.structured import greedy_removal
from tasks.score.criterion import Sample, Scores
from tasks.score.joined import by_join

DAMPING = 0.01


def _units(weight: Tensor, gram: Gram, columns: Sequence[Sequence[int]]) -> Tensor:
    matrix = damped(gram.matrix, DAMPING)
    if len(columns) == 1:  # a whole sublayer: nothing makes up for it
        return ((weight.to(matrix) @ matrix) * weight.to(matrix)).sum().reshape(1)
    removal = greedy_removal(weight, matrix, columns)
    scores = torch.empty(len(columns), dtype=torch.float64)
    added = removal.error.cpu().diff(prepend=torch.zeros(1, dtype=torch.float64))
    # The order of the scores is that of the removals, even where a later one costs less than an earlier one.
    scores[removal.order] = added.cummax(0).values * (1 + 1e-6 * torch.arange(len(added)))
    return scores


def _weights(weight: Tensor, gram: Gram) -> Tensor:
    """w^2 / (2 [H^-1]_jj), before any is removed."""
    inverse = torch.linalg.inv(damped(gram.matrix, DAMPING)).diagonal()
    saliency: Tensor = weight.to(inverse).square() / (2 * inverse)
    return saliency


OBS = by_join(_units, _weights)


def obs_fisher(sample: Sample) -> Scores:
    """1/2 1 / [F^-1]_uu of each unit's gate, F the Fisher of dL/dgate = sum w * dL/dw over what the unit hands on."""
    parameters, groups = sample.parameters, sample.groups
    slopes: dict[str, list[Tensor]] = {group.name: [] for group in groups}
    for _ in sample.slopes():
        for group in groups:
            total = torch.zeros(group.count, dtype=torch.float64, device=sample.model.device)
            for cut in group.cuts if group.modules or group.count == 1 else group.cuts[-1:]:
                slope = parameters[cut.tensor].grad
                if slope is not None:
                    total += cut.per_unit(parameters[cut.tensor].detach() * slope).sum(1)
            slopes[group.name].append(total)
    scores = {}
    for group in groups:
        rows = torch.stack(slopes[group.name])
        damping = DAMPING * float(rows.square().mean()) + torch.finfo(torch.float64).tiny
        fisher = FisherBlocks(group.count, group.count, len(rows), damping, rows.device)
        fisher.add(rows)
        scores[group.name] = fisher.saliency(torch.ones(group.count)).float().cpu()
    return scores
