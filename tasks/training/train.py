"""Training from checkpoint directory to checkpoint directory, in as many processes as the settings say."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

from tasks.core.files import write_json
from tasks.modeling.checkpoint import load, save
from tasks.modeling.inference import forward, logits
from tasks.modeling.vocabulary import select_tokens
from tasks.recipe.schema import Distill, Recovery, Training
from tasks.text.data import Split, read_split
from tasks.text.registry import read_task
from tasks.text.vocabulary import copy_tokenizer, read_vocabulary
from tasks.training.launch import launch
from tasks.training.layers import LayerDistillation
from tasks.training.loop import fit, mixed_precision
from tasks.training.loss import asked, cached, distillation, joint, supervised

TEACHER = "logits.safetensors"


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


def train(course: Course) -> None:
    """Trains and writes checkpoint, tokenizer and `training.json` (curve, validation, best_epoch) to `course.out`."""
    launch(_work, course, processes=course.settings.processes)


def _work(course: Course) -> None:
    model, task = load(course.start), read_task(course.prepared)
    settings = course.settings
    rows, validation = (read_split(course.prepared, name, course.start) for name in ("train", "validation"))
    objective = supervised(task, rows)
    if course.teacher and course.dense and isinstance(settings, Recovery) and (settings.alpha < 1 or not task.causal):
        if task.causal:
            bf16 = mixed_precision(settings.precision) == "bf16"
            teacher = asked(_dense(course, course.dense), rows, bf16=bf16)
        else:
            teacher = cached(load_file(course.teacher / TEACHER)["train"])
        objective = distillation(task, rows, teacher, settings.temperature, settings.alpha)
    inside = []
    if course.dense and isinstance(settings, Recovery) and (settings.hidden or settings.attention):
        inside = [_layers(_dense(course, course.dense), rows, settings, course.seed)]
        objective = joint(objective, inside[0].losses)
    history = fit(
        model, rows, validation, settings, objective, task, course.metric, course.seed, course.scratch, inside
    )
    for extra in inside:
        extra.release(model)
    if torch.distributed.is_available() and torch.distributed.is_initialized() and torch.distributed.get_rank() > 0:
        return
    if task.tunes:
        model.config.update(task.tune(logits(forward(model), validation, 2 * settings.batch_size), validation))
        model.cpu()
    save(model, course.out)
    copy_tokenizer(course.start, course.prepared, course.out)
    write_json(
        course.out / "training.json",
        {
            "curve": history.curve,
            "validation": history.validation,
            "best_epoch": history.validation[history.best()]["epoch"],
            **history.extras,  # nothing but the curve of a learned layer map
        },
    )


def _dense(course: Course, directory: Path) -> PreTrainedModel:
    """The teacher, which reads the rows of the model that is trained.

    If that one's vocabulary was pruned, the teacher loses the same tokens: its layers give what they gave, and its
    distribution over the next token is its own, renormalised over the tokens that stay.
    """
    dense, vocabulary = load(directory), read_vocabulary(course.start)
    return dense if vocabulary is None else select_tokens(dense, vocabulary.kept)


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
