"""Removes the least important units, physically, and writes down which and why."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from tasks.core.files import read_json, write_json
from tasks.families import family_of
from tasks.modeling.checkpoint import load, save
from tasks.modeling.inference import device
from tasks.modeling.matrices import matrices
from tasks.modeling.shrink import shrink
from tasks.modeling.size import SIZES, size
from tasks.prune.costs import unit_costs
from tasks.prune.curves import Sensitivity
from tasks.prune.plan import WEIGHT, plan
from tasks.prune.removed import dense_layers, removed_units, removed_weights
from tasks.prune.unused import with_vocabulary
from tasks.recipe.goal import Amount
from tasks.recipe.schema import Prune
from tasks.reconstruct.layerwise import Loss
from tasks.reconstruct.units import reconstruct
from tasks.reconstruct.weights import PER_ROW, adapt, drop, mask
from tasks.text.data import Split, read_split
from tasks.text.registry import read_task
from tasks.text.task import TaskType
from tasks.training.reinit import kept_entries, reinitialize


def prune(
    model: Path, scores: Path, prepared: Path, teacher: Path, number: int, criterion: str, settings: Prune, seed: int,
    out: Path,
) -> None:  # fmt: skip
    """Writes the checkpoint without what round `number` (from 0) removes, and `plan.json`.

    Args:
        model: the checkpoint that was scored.
        scores: out of the score stage.
        prepared: out of the prepare stage; its training rows calibrate what is refitted.
        teacher: out of the train stage; holds what the dense model costs, of which shares are counted.
        criterion: by which it was scored.
        out: gets the checkpoint and the plan: for each layer and kind the units of the dense model that stay, those
            this round removed, and the score of each of the latter; the zeros of each matrix; what was measured, and
            what each matrix lost; of a vocabulary that was pruned its sizes and proof. `layers` are the dense model's
            numbers of the layers that names of groups and matrices count. Where tokens are gone, the rebuilt tokenizer
            lies beside the checkpoint.
    """
    goal = settings.goals[number]
    source, tokens = with_vocabulary(load(model).to(device()), model, prepared, goal, settings, out)
    importance = load_file(scores / "scores.safetensors")
    train, task = read_split(prepared, "train", out), read_task(prepared)
    rows = np.sort(np.random.default_rng(seed).permutation(len(train))[: settings.rows])
    sample = train.take(rows)
    length = float(train.lengths.mean())
    damping = settings.damping if settings.reconstruct else None
    costs = unit_costs(source, length)
    chosen = plan(
        source,
        importance,
        goal,
        settings,
        costs,
        partial(_budget, source, read_json(teacher / SIZES), settings, costs, goal.share, length),
        lambda units: Sensitivity(source, sample, settings.batch_size, task, damping)(units),
    )
    groups, layers = removed_units(source, importance, chosen), dense_layers(source)
    weights = goal.kinds.get(WEIGHT)
    errors: dict[str, float] = {}
    thinned: list[dict[str, Any]] = []
    if settings.unselected != "remove" and number + 1 < len(settings.goals):
        kept = kept_entries(
            family_of(source.config.model_type).groups(source), dict(source.named_parameters()), chosen.kept
        )
        if weights:
            masks = _masks(source, importance, criterion, weights)
            kept |= _folded(source, masks)
            thinned = removed_weights(source, masks, importance)
        smaller = reinitialize(source, kept, settings.unselected, seed + number)
    else:
        if settings.reconstruct and chosen.kept:
            batches, again = _batches(sample, settings, source), criterion == "obs"
            loss = _loss(sample, settings, task)
            stay, errors = reconstruct(source, chosen.kept, batches, settings.damping, choose=again, loss=loss)
            chosen = replace(chosen, kept=stay)
        groups = removed_units(source, importance, chosen)
        smaller = shrink(source, chosen.kept) if chosen.kept else source
        if weights:
            _thin(smaller, importance, criterion, weights, _batches(sample, settings, smaller), settings)
            masks = {matrix.tensor: matrix.read() != 0 for matrix in matrices(smaller)}
            thinned = removed_weights(smaller, masks, importance)
    save(smaller, out)
    facts = {"goal": goal.as_item(), "criterion": criterion, "allocation": settings.allocation}
    facts["unselected"] = "remove" if number + 1 == len(settings.goals) else settings.unselected
    measured = {"threshold": chosen.thresholds, "sensitivity": chosen.curves, "errors": errors}
    write_json(
        out / "plan.json", {**facts, **tokens, **measured, "layers": layers, "groups": groups, "weights": thinned}
    )


def _budget(
    model: PreTrainedModel, dense: Any, settings: Prune, costs: Any, share: float, length: float, cost: str
) -> float:
    """What the groups that are pruned may cost: the dense model's cost less `share`, less what is not pruned."""
    groups = [g for g in family_of(model.config.model_type).groups(model) if g.kind in settings.units]
    prunable = sum(costs[group.name][cost] * group.count for group in groups)
    return float(dense[cost] * (1 - share) - (size(model, length)[cost] - prunable))


def _batches(sample: Split, settings: Prune, model: PreTrainedModel) -> list[dict[str, Tensor]]:
    batches = (sample.batch(rows) for rows in sample.by_length(settings.batch_size))
    return [{name: torch.from_numpy(array).to(model.device) for name, array in batch.items()} for batch in batches]


def _loss(sample: Split, settings: Prune, task: TaskType) -> Loss:
    rows = list(sample.by_length(settings.batch_size))
    return lambda outputs, number: task.loss(outputs, sample, rows[number])


def _thin(
    model: PreTrainedModel, scores: dict[str, Tensor], criterion: str, amount: Amount, batches: list[dict[str, Tensor]],
    settings: Prune,
) -> None:  # fmt: skip
    """Removes single weights by their scores; of OBS with an update the choice is made along the way."""
    if settings.reconstruct and criterion == "obs" and amount.threshold is None:
        adapt(model, amount, batches, damping=settings.damping)
        return
    masks = _masks(model, scores, criterion, amount)
    if settings.reconstruct:
        adapt(model, amount, batches, masks, settings.damping)
    else:
        drop(model, masks)


def _masks(model: PreTrainedModel, scores: dict[str, Tensor], criterion: str, amount: Amount) -> dict[str, Tensor]:
    """Which weights of each matrix stay, shape (outputs, inputs)."""
    return {
        matrix.tensor: mask(matrix, scores[f"weight.{matrix.tensor}"], amount, per_row=criterion in PER_ROW)
        for matrix in matrices(model)
    }


def _folded(model: PreTrainedModel, masks: dict[str, Tensor]) -> dict[str, Tensor]:
    return {matrix.tensor: matrix.fold(masks[matrix.tensor]) for matrix in matrices(model)}
