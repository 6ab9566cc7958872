"""Random: the control that every other criterion must beat; uniform on (0, 1) by the seed."""

import torch

from tasks.score.criterion import Sample, Scores


def random(sample: Sample) -> Scores:
    """Needs no data."""
    generator = torch.Generator().manual_seed(sample.seed)
    scores = {group.name: torch.rand(group.count, generator=generator) for group in sample.groups}
    if sample.weights:
        for name, matrix in sample.matrices.items():
            scores[f"weight.{name}"] = torch.rand(matrix.parameter.shape, generator=generator)
    return scores
