"""The dense model: a pre-trained one with a new head, fine-tuned; and what it says, for distillation."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from tasks.core.files import whole, write_json
from tasks.families import family_of
from tasks.modeling.checkpoint import load, read_config, save
from tasks.modeling.inference import forward, logits
from tasks.modeling.size import SIZES, size
from tasks.recipe.trainings import Dense
from tasks.text.data import read_split
from tasks.text.registry import read_task
from tasks.training.loop import mixed_precision
from tasks.training.train import TEACHER, Course, train


def train_dense(
    source: Path, prepared: Path, settings: Dense, metric: str, seed: int, scratch: Path, out: Path, teacher: Path
) -> None:
    """Fine-tunes the model in `source` on the prepared data.

    Args:
        source: checkpoint of a known family; its head, if any, is replaced, but for the next token's.
        prepared: out of the prepare stage.
        scratch: where the training may leave checkpoints.
        out: gets the checkpoint, and in `early` that of its weights at `settings.early`.
        teacher: gets its outputs, the rows first, of `train`, in the precision of the training, and of
            `validation`, in float32; of `train` only where they can be kept (see `TaskType.causal`); and what the
            model costs.
    """
    start, task = scratch / "start", read_task(prepared)
    if not start.is_dir():
        torch.manual_seed(seed)
        family_of(read_config(source).model_type)  # refuses what could be trained but not pruned
        with whole(start) as directory:
            model = load(source, head=task)
            task.check(model)
            save(model, directory)
    train(Course(start, prepared, None, None, settings, metric, seed, scratch, out))
    model, outputs = load(out), {}
    splits = {"train": mixed_precision(settings.precision) == "bf16", "validation": False}
    rows = max(1, min(64, 2 * settings.batch_size // settings.accumulate))
    read = {name: read_split(prepared, name) for name in splits}
    for name in ("validation",) if task.causal else splits:
        run = forward(model, bf16=splits[name])
        outputs[name] = torch.from_numpy(logits(run, read[name], rows))
    save_file(outputs, teacher / TEACHER)
    write_json(teacher / SIZES, size(model, float(read["train"].lengths.mean())))
