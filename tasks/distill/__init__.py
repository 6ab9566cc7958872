"""A student of the dense model: some of its layers (as DistilBERT, Sanh et al., 2019), or another architecture."""

from pathlib import Path

import torch

from tasks.core.files import whole
from tasks.distill.student import other, shallower
from tasks.modeling.checkpoint import load, save
from tasks.recipe.trainings import Distill
from tasks.training.train import Course, train


def distill(
    dense: Path,
    source: Path | None,
    prepared: Path,
    teacher: Path,
    settings: Distill,
    metric: str,
    seed: int,
    scratch: Path,
    out: Path,
) -> None:
    """Builds the student that `settings` name and trains it with the dense model as teacher.

    Args:
        dense: checkpoint of the teacher, and of the student's layers if there is no `source`.
        source: checkpoint of what the student starts from instead; it gets a new head.
        prepared: out of the prepare stage.
        teacher: the teacher's logits, see `Course`.
        scratch: where the training may leave checkpoints.
        out: gets the student.
    """
    start = scratch / "start"
    if not start.is_dir():
        torch.manual_seed(seed)
        model = other(source, prepared) if source else load(dense)
        if source is None or settings.layers is not None:
            model = shallower(model, settings.layers)
        with whole(start) as directory:
            save(model, directory)
    train(Course(start, prepared, teacher, dense, settings, metric, seed, scratch, out))
