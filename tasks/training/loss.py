"""Losses per row, so that batches split over processes and steps add up to the same sum."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

Objective = Callable[[Tensor, Tensor, NDArray[np.int64]], Tensor]
"""(logits (rows, labels), true labels (rows,), row numbers) to losses (rows,)."""


def supervised(logits: Tensor, labels: Tensor, rows: NDArray[np.int64]) -> Tensor:  # noqa: ARG001
    """Cross-entropy with the true labels."""
    return F.cross_entropy(logits, labels, reduction="none")


def distillation(teacher: Tensor, temperature: float, alpha: float) -> Objective:
    """alpha * CE + (1 - alpha) * T^2 * KL(teacher_T || student_T) (Hinton, Vinyals & Dean, 2015).

    Args:
        teacher: logits of the teacher for every training row, shape (rows, labels).
        temperature: T, divides both logits.
        alpha: weight of the true labels; 1 is plain training.
    """

    def objective(logits: Tensor, labels: Tensor, rows: NDArray[np.int64]) -> Tensor:
        hard = F.cross_entropy(logits, labels, reduction="none")
        target = F.log_softmax(teacher[torch.from_numpy(rows)].to(logits.device) / temperature, dim=-1)
        student = F.log_softmax(logits / temperature, dim=-1)
        soft = F.kl_div(student, target, reduction="none", log_target=True).sum(-1)
        return alpha * hard + (1 - alpha) * temperature**2 * soft

    return objective
