"""Criteria that watch a training of a copy of the model on the task's loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file
from transformers import PreTrainedModel

from tasks.core.files import write_json
from tasks.modeling.checkpoint import load, save
from tasks.recipe.pruning import Score
from tasks.score.criterion import Scores
from tasks.text.data import read_split
from tasks.text.registry import read_task
from tasks.text.vocabulary import copy_tokenizer
from tasks.training.chosen import penalties
from tasks.training.extra import Extra
from tasks.training.launch import is_first, launch
from tasks.training.loop import fit
from tasks.training.loss import supervised

SCORES = "scores.safetensors"


@dataclass(frozen=True)
class Lesson:
    """A training that scores units."""

    model: Path
    """Checkpoint."""
    prepared: Path
    settings: Score
    kinds: tuple[str, ...]
    """What is pruned."""
    metric: str
    seed: int
    scratch: Path
    out: Path


@dataclass(frozen=True)
class Watched:
    """What takes part in the training, and what it has to say in the end."""

    extras: Sequence[Extra]
    scores: Callable[[], Scores]
    finish: Callable[[PreTrainedModel], object] | None = None
    """Makes the trained model an ordinary one with the same units, from which pruning starts; None: it is dropped."""


Trained = Callable[[Lesson, PreTrainedModel], Watched]
"""A criterion; the model is what the training starts from."""


def learn(lesson: Lesson, criterion: Trained) -> None:
    """Trains and writes scores, training.json and, if there is one, the model to prune, to `lesson.out`.

    Raises:
        UserError: the criterion says nothing of a kind of unit.
    """
    launch(_work, lesson, criterion, processes=lesson.settings.training.processes)


def _work(lesson: Lesson, criterion: Trained) -> None:
    model, task, settings = load(lesson.model), read_task(lesson.prepared), lesson.settings.training
    train, validation = (read_split(lesson.prepared, name, lesson.model) for name in ("train", "validation"))
    watched = criterion(lesson, model)
    extras = [*penalties(settings, model), *watched.extras]
    objective = supervised(task, train)
    history = fit(
        model, train, validation, settings, objective, task, lesson.metric, lesson.seed, lesson.scratch, extras
    )
    if not is_first():
        return
    save_file(watched.scores(), lesson.out / SCORES)
    write_json(lesson.out / "training.json", history.record())
    if watched.finish:
        watched.finish(model)
        save(model, lesson.out / "model")
        copy_tokenizer(lesson.model, lesson.prepared, lesson.out / "model")
