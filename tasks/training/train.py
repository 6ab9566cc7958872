"""Training from checkpoint directory to checkpoint directory, in as many processes as the settings say."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from transformers import PreTrainedModel

from tasks.core.files import write_json
from tasks.modeling.checkpoint import load, save
from tasks.modeling.inference import forward, logits
from tasks.modeling.vocabulary import as_read_by
from tasks.recipe.trainings import Dense, Distill, Finetune, Recovery, Training
from tasks.text.data import Split, read_split
from tasks.text.registry import read_task
from tasks.text.vocabulary import copy_tokenizer
from tasks.training.chosen import masks, penalties
from tasks.training.early import Early
from tasks.training.extra import Extra
from tasks.training.int8 import Int8
from tasks.training.launch import is_first, launch
from tasks.training.layers import LayerDistillation
from tasks.training.loop import fit, mixed_precision
from tasks.training.loss import asked, cached, distillation, joint, supervised
from tasks.training.schedule import steps_of

TEACHER = "logits.safetensors"
EARLY = "early"
"""Directory in a trained checkpoint's with the checkpoint of its weights at `train.early`."""


@dataclass(frozen=True)
class Course:
    """A training: what starts it, what it learns from, where it goes."""

    start: Path
    """Checkpoint."""
    prepared: Path
    teacher: Path | None
    """Directory with the teacher's outputs of the training rows (`train`), or no teacher."""
    dense: Path | None
    """The teacher's checkpoint, for what is learned from its layers and, where the task is causal, from its outputs."""
    settings: Training
    metric: str
    seed: int
    scratch: Path
    out: Path
    zeros: bool = False
    """Whether weights of the matrices of layers that are zero at the start stay so, or move only by regrowth."""
    gradual: float = 0.0
    """Share of each such matrix that is pruned on the way."""


def train(course: Course) -> None:
    """Trains and writes checkpoint, tokenizer and `training.json` (see `History.record`) to `course.out`."""
    launch(_work, course, processes=course.settings.processes)


def _work(course: Course) -> None:
    model, task = load(course.start), read_task(course.prepared)
    settings = course.settings
    rows, validation = (read_split(course.prepared, name, course.start) for name in ("train", "validation"))
    objective = supervised(task, rows)
    if course.teacher and course.dense and isinstance(settings, Recovery) and (settings.alpha < 1 or not task.causal):
        if task.causal:
            bf16 = mixed_precision(settings.precision) == "bf16"
            teacher = asked(as_read_by(load(course.dense), course.start), rows, bf16=bf16)
        else:
            teacher = cached(load_file(course.teacher / TEACHER)["train"])
        objective = distillation(task, rows, teacher, settings.temperature, settings.alpha)
    inside, layers = _extras(course, model, len(rows)), None
    if course.dense and isinstance(settings, Recovery) and (settings.hidden or settings.attention):
        layers = _layers(as_read_by(load(course.dense), course.start), rows, settings, course.seed)
        inside.insert(0, layers)
        objective = joint(objective, layers.losses)
    int8 = Int8(model) if isinstance(settings, Recovery) and settings.quantize else None
    inside += [int8] if int8 else []
    history = fit(
        model, rows, validation, settings, objective, task, course.metric, course.seed, course.scratch, inside
    )
    if layers:
        layers.release(model)
    if int8:
        int8.release()
    if not is_first():
        return
    if task.tunes:
        model.config.update(task.tune(logits(forward(model), validation, 2 * settings.batch_size), validation))
        model.cpu()
    save(model, course.out)
    copy_tokenizer(course.start, course.prepared, course.out)
    if (course.scratch / EARLY).is_dir():
        shutil.copytree(course.scratch / EARLY, course.out / EARLY)
    write_json(course.out / "training.json", history.record())


def _extras(course: Course, model: PreTrainedModel, rows: int) -> list[Extra]:
    settings = course.settings
    steps = steps_of(rows, settings.batch_size, settings.epochs)
    regrowth = settings.regrowth if isinstance(settings, Finetune) else 0.0
    found = penalties(settings, model)
    found += masks(model, steps, zeros=course.zeros, gradual=course.gradual, regrowth=regrowth)
    if isinstance(settings, Dense) and settings.early is not None:
        found.append(Early(steps_of(rows, settings.batch_size, settings.early), course.scratch / EARLY))
    return found


def _layers(dense: PreTrainedModel, rows: Split, settings: Recovery, seed: int) -> LayerDistillation:
    return LayerDistillation(
        dense,
        rows,
        hidden=settings.hidden,
        attention=settings.attention,
        layer_map=settings.layer_map,
        pruned=not isinstance(settings, Distill),
        bf16=mixed_precision(settings.precision) == "bf16",
        seed=seed,
    )
