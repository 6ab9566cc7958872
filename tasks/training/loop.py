"""One training loop for every stage that trains: deterministic, resumable, the same on one process or several."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from tasks.core.progress import progress
from tasks.modeling.checkpoint import head_of
from tasks.modeling.inference import collected
from tasks.recipe.trainings import Training
from tasks.text.data import Split
from tasks.text.metrics import quality
from tasks.text.task import TaskType
from tasks.training.extra import Extra, Extras
from tasks.training.loss import Objective
from tasks.training.schedule import epoch_batches, learning_rate, steps_of
from tasks.training.state import History, load_state, save_state

BEST = "best.safetensors"
LOG_STEPS = 20


def fit(
    model: PreTrainedModel,
    train: Split,
    validation: Split,
    settings: Training,
    objective: Objective,
    task: TaskType,
    metric: str,
    seed: int,
    scratch: Path,
    extras: Sequence[Extra] = (),
) -> History:
    """Trains `model` in place and leaves it with the weights of its best epoch on validation.

    A batch's loss is the weighted mean of its rows' losses, however the batch is split over processes and parts
    (`accumulate`), so the gradient does not depend on the split.

    Args:
        model: in float32; it is moved to the device.
        objective: losses per row of `train`.
        task: by whose loss and metric it is validated.
        scratch: where checkpoints lie; a training that finds one there goes on from it, bit by bit as if unbroken.
        extras: penalties, gates, masks, …, each attached to `model` anew.

    Returns:
        Steps, curves and the best epoch, of those that the extras let be the result.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    accelerator = Accelerator(mixed_precision=mixed_precision(settings.precision), cpu=not torch.cuda.is_available())
    _set_up(model, settings, accelerator.device)
    driven = Extras(extras, model.to(accelerator.device))
    wrapped, optimizer = accelerator.prepare(model, _optimizer(model, settings, driven.optimized))
    bare = accelerator.unwrap_model(wrapped)
    rank, world = accelerator.process_index, accelerator.num_processes
    weigh = task.weights(train) if settings.class_weights else np.ones(len(train), np.float32)
    weights = torch.from_numpy(weigh).to(accelerator.device)
    per_epoch = -(-len(train) // settings.batch_size)
    steps = steps_of(len(train), settings.batch_size, settings.epochs)
    history = load_state(scratch / "state", bare, optimizer.optimizer, rank, world, driven)

    while history.step < steps and not _stopped(history, settings.patience):
        epoch, done = divmod(history.step, per_epoch)
        wrapped.train()
        for rows in epoch_batches(train.lengths, settings.batch_size, seed, epoch)[done : steps - epoch * per_epoch]:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(history.step, steps, group["peak"], settings.warmup)
            driven.before_step(history.step, steps)
            total = weights[torch.from_numpy(rows)].sum()
            parts = np.array_split(rows, world * settings.accumulate)[rank::world]
            loss = 0.0
            for i, part in enumerate(parts):
                last = i == len(parts) - 1
                with contextlib.nullcontext() if last else accelerator.no_sync(wrapped):
                    # A last, short batch may leave a process without rows: it takes one, with no weight.
                    chosen, share = (part, 1.0) if len(part) else (rows[:1], 0.0)
                    batch = {k: torch.from_numpy(v).to(accelerator.device) for k, v in train.batch(chosen).items()}
                    per_row = objective(wrapped(**batch), chosen) * weights[torch.from_numpy(chosen)]
                    part_loss = share * per_row.sum() / total
                    accelerator.backward(part_loss * world)
                    loss += float(part_loss.detach())
            driven.gradients(history.step, steps)
            accelerator.clip_grad_norm_(wrapped.parameters(), settings.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            history.step += 1
            driven.after_step(history.step, steps)
            history.pending.append(float(np.sum(gather_object([loss]))) if world > 1 else loss)
            if history.step % LOG_STEPS == 0 or history.step == steps:
                mean = float(np.mean(history.pending))
                history.curve.append({"step": history.step, "epoch": history.step / per_epoch, "loss": mean})
                history.pending = []
                driven.log(history, history.step / per_epoch)
                progress("step", history.step, steps)
            ends = history.step == steps or history.step % per_epoch == 0  # saved below, with its validation
            if history.step % settings.checkpoint_steps == 0 and not ends:
                save_state(scratch / "state", bare, optimizer.optimizer, history, rank, driven)
        ready, epochs = driven.ready() or history.step == steps, history.step / per_epoch
        _end_epoch(accelerator, bare, validation, settings, task, metric, history, epochs, scratch, ready)
        save_state(scratch / "state", bare, optimizer.optimizer, history, rank, driven)

    best = load_file(scratch / BEST)
    with torch.no_grad():
        for name, parameter in bare.named_parameters():
            parameter.copy_(best[name])
    model.requires_grad_(True).cpu().eval()
    return history


def mixed_precision(precision: str) -> str:
    """`bf16` or `no` for accelerate; `auto` takes bf16 where the device computes in it natively."""
    if precision == "auto":
        native = torch.cuda.is_bf16_supported() if torch.cuda.is_available() else torch.cpu._is_avx512_bf16_supported()
        return "bf16" if native else "no"
    return "bf16" if precision == "bf16" else "no"


def _set_up(model: PreTrainedModel, settings: Training, device: torch.device) -> None:
    for module in model.modules():
        if settings.dropout is not None and isinstance(module, nn.Dropout):
            module.p = settings.dropout
    if device.type == "cpu":
        # PyTorch's fused attention is the slower one here: its backward pass on short texts takes a third of the step.
        model.set_attn_implementation("eager")
    if settings.freeze_embeddings:
        model.get_input_embeddings().requires_grad_(False)


def _optimizer(model: nn.Module, settings: Training, own: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """`own` are groups of the extras, with learning rates of their own."""
    apart = {id(parameter) for group in own for parameter in group["params"]}
    trained = [p for p in model.parameters() if p.requires_grad and id(p) not in apart]
    peak = settings.learning_rate
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay, "peak": peak},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0, "peak": peak},
        *own,
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def _stopped(history: History, patience: int | None) -> bool:
    seen = len(history.validation) - history.unready
    return patience is not None and seen > 0 and len(history.validation) - 1 - history.best() >= patience


def _end_epoch(
    accelerator: Accelerator,
    model: PreTrainedModel,
    validation: Split,
    settings: Training,
    task: TaskType,
    metric: str,
    history: History,
    epoch: float,
    scratch: Path,
    ready: bool,
) -> None:
    """Validates, each process its share of the rows, and keeps the weights if they are `ready` and the best."""
    rows = np.arange(len(validation))[accelerator.process_index :: accelerator.num_processes]
    mine = validation.take(rows)
    model.eval()
    head = head_of(type(model))
    found = []
    with torch.inference_mode(), accelerator.autocast():
        for chosen in mine.by_length(max(1, 2 * settings.batch_size // settings.accumulate)):
            batch = {k: torch.from_numpy(v).to(accelerator.device) for k, v in mine.batch(chosen).items()}
            outputs = model(**batch)
            values = head.kept(outputs, batch)
            found.append((rows[chosen], values, task.loss(outputs, mine, chosen).cpu().numpy()))
    everything = gather_object(found) if accelerator.num_processes > 1 else found
    values = collected([(numbers, part) for numbers, part, _ in everything])
    losses = np.empty(len(validation))
    for numbers, _, part in everything:
        losses[numbers] = part
    predictions = task.predict(values, validation, task.tune(values, validation))
    reached = quality(task.metrics[metric], task.cells(predictions, validation))
    loss = float(np.mean(losses))
    history.validation.append({"epoch": epoch, "quality": reached, "loss": loss})
    if not ready:
        history.unready = len(history.validation)
    elif history.best() == len(history.validation) - 1:
        if accelerator.is_main_process:
            partial = scratch / f"{BEST}.partial"
            save_file({k: v.detach().cpu().contiguous() for k, v in model.named_parameters()}, partial)
            partial.replace(scratch / BEST)
        accelerator.wait_for_everyone()
