"""Movement (Sanh, Wolf & Rush, 2020): whether training moves what a unit, or a weight, consists of away from zero."""

from math import inf

import torch
from transformers import PreTrainedModel

from tasks.modeling.matrices import matrices
from tasks.score.criterion import Scores
from tasks.score.trained import Lesson, Watched
from tasks.training.chosen import masks
from tasks.training.movement import Movement
from tasks.training.units import own_kinds


def movement(lesson: Lesson, model: PreTrainedModel) -> Watched:
    """- sum over steps of w dL/dw; a weight that is zero already stays so and scores least."""
    kinds = [kind for kind in lesson.kinds if kind != "weight"]
    if "weight" not in lesson.kinds:
        watch = Movement(kinds)
        return Watched([watch], watch.scores)
    watch = Movement(list(dict.fromkeys([*kinds, *own_kinds(model)])), weights=True)
    alive = {matrix.tensor: (matrix.parameter != 0).cpu() for matrix in matrices(model)}

    def scores() -> Scores:
        moved = watch.weight_scores()
        single = {f"weight.{name}": torch.where(mask, moved[name], -inf) for name, mask in alive.items()}
        return {**watch.scores(), **single}

    return Watched([*masks(model, 1, zeros=True), watch], scores)
