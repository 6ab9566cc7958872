"""Losses per row, so that batches split over processes and steps add up to the same sum."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers.utils import ModelOutput

from tasks.text.data import Split
from tasks.text.task import TaskType

Objective = Callable[[ModelOutput, NDArray[np.int64]], Tensor]
"""(outputs of the model for some rows of the training split, their numbers) to losses (rows,)."""


def supervised(task: TaskType, train: Split) -> Objective:
    """The task's loss with what is right."""
    return lambda outputs, rows: task.loss(outputs, train, rows)


def distillation(task: TaskType, train: Split, teacher: Tensor, temperature: float, alpha: float) -> Objective:
    """alpha * task loss + (1 - alpha) * T^2 * KL(teacher_T || student_T) (Hinton, Vinyals & Dean, 2015).

    Args:
        task: whose losses these are.
        train: the training rows.
        teacher: outputs of the teacher for every training row, the first axis.
        temperature: T, divides the outputs of both.
        alpha: weight of what is right; 1 is plain training.
    """

    if alpha == 1:
        return supervised(task, train)

    def objective(outputs: ModelOutput, rows: NDArray[np.int64]) -> Tensor:
        hard = task.loss(outputs, train, rows)
        return alpha * hard + (1 - alpha) * task.soft_loss(outputs, teacher, train, rows, temperature)

    return objective


def joint(first: Objective, second: Objective) -> Objective:
    """The sum of two."""
    return lambda outputs, rows: first(outputs, rows) + second(outputs, rows)
