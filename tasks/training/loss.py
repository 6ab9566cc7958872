"""Losses per row, so that batches split over processes and steps add up to the same sum."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from tasks.modeling.inference import device
from tasks.text.data import Split
from tasks.text.task import TaskType

Objective = Callable[[ModelOutput, NDArray[np.int64]], Tensor]
"""(outputs of the model for some rows of the training split, their numbers) to losses (rows,)."""

Teacher = Callable[[NDArray[np.int64]], Tensor]
"""Numbers of rows of the training split to the teacher's outputs for them."""


def supervised(task: TaskType, train: Split) -> Objective:
    """The task's loss with what is right."""
    return lambda outputs, rows: task.loss(outputs, train, rows)


def distillation(task: TaskType, train: Split, teacher: Teacher, temperature: float, alpha: float) -> Objective:
    """alpha * task loss + (1 - alpha) * T^2 * KL(teacher_T || student_T) (Hinton, Vinyals & Dean, 2015).

    Args:
        task: whose losses these are.
        train: the training rows.
        teacher: what it says of the training rows: `cached`, or `asked`.
        temperature: T, divides the outputs of both.
        alpha: weight of what is right; 1 is plain training.
    """

    if alpha == 1:
        return supervised(task, train)

    def objective(outputs: ModelOutput, rows: NDArray[np.int64]) -> Tensor:
        hard = task.loss(outputs, train, rows)
        return alpha * hard + (1 - alpha) * task.soft_loss(outputs, teacher(rows), train, rows, temperature)

    return objective


def cached(outputs: Tensor) -> Teacher:
    """A teacher whose outputs for every training row, the first axis, are known."""
    return lambda rows: outputs[torch.from_numpy(rows)]


def asked(model: PreTrainedModel, train: Split, *, bf16: bool) -> Teacher:
    """A teacher that computes its logits, shape (rows, length, vocabulary), anew in every step.

    Args:
        model: is put into eval mode and learns nothing; goes to the device that the process trains on.
        train: the training rows.
        bf16: as the student computes.
    """
    model.eval().requires_grad_(False)

    def teacher(rows: NDArray[np.int64]) -> Tensor:
        place = device()  # only known once the processes have divided the GPUs
        model.to(place)
        batch = {name: torch.from_numpy(array).to(place) for name, array in train.batch(rows).items()}
        with torch.no_grad(), torch.autocast(place.type, torch.bfloat16, enabled=bf16):
            logits: Tensor = model(**batch).logits
        return logits

    return teacher


def joint(first: Objective, second: Objective) -> Objective:
    """The sum of two."""
    return lambda outputs, rows: first(outputs, rows) + second(outputs, rows)
