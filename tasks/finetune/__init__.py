"""Recovery after pruning: trains what is left, with the dense model as teacher."""

from pathlib import Path

from tasks.recipe.schema import Recovery
from tasks.training.train import Course, train


def finetune(
    cut: Path,
    dense: Path,
    prepared: Path,
    teacher: Path,
    settings: Recovery,
    metric: str,
    seed: int,
    scratch: Path,
    out: Path,
) -> None:
    """Trains the pruned checkpoint in `cut` on the true labels and what the dense model says; see `Course`."""
    train(Course(cut, prepared, teacher, dense, settings, metric, seed, scratch, out))
