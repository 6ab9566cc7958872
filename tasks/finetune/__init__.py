"""Recovery after pruning: trains what is left, with the dense model as teacher."""

from pathlib import Path

from tasks.core.files import read_json
from tasks.recipe.trainings import Finetune
from tasks.training.train import Course, train


def finetune(
    cut: Path,
    dense: Path,
    prepared: Path,
    teacher: Path,
    settings: Finetune,
    metric: str,
    seed: int,
    scratch: Path,
    out: Path,
) -> None:
    """Trains the pruned checkpoint in `cut` on the true labels and what the dense model says; see `Course`.

    What its plan.json says of single weights holds: that zeros stay, or what share of them is to go on the way.
    """
    said = read_json(cut / "plan.json")
    zeros, gradual = said.get("zeros", False), said.get("gradual", 0.0)
    train(Course(cut, prepared, teacher, dense, settings, metric, seed, scratch, out, zeros, gradual))
