"""Removes the least important units, physically, and writes down which and why."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from tasks.allocate.levels import CURVES
from tasks.allocate.times import FILE
from tasks.core.files import read_json, write_json
from tasks.families import family_of
from tasks.modeling.checkpoint import load, save
from tasks.modeling.inference import device
from tasks.modeling.matrices import matrices
from tasks.modeling.replay import replay
from tasks.modeling.shrink import dense_layers, shrink
from tasks.modeling.size import SIZES
from tasks.modeling.vocabulary import as_read_by
from tasks.prune.costs import LATENCY, Priced, by_formula, by_table
from tasks.prune.plan import WEIGHT, Plan, plan
from tasks.prune.removed import removed_units, removed_weights
from tasks.prune.unused import with_vocabulary
from tasks.prune.weights import folded, masks, of_what_stays, thin
from tasks.recipe.goal import Amount
from tasks.recipe.pruning import ALONG, Prune
from tasks.reconstruct.apart import refit
from tasks.reconstruct.layerwise import batched
from tasks.reconstruct.units import reconstruct
from tasks.text.data import read_split
from tasks.text.registry import read_task
from tasks.training.reinit import kept_entries, reinitialize, rewind


def prune(
    model: Path, scores: Path, prepared: Path, teacher: Path, number: int, criterion: str, settings: Prune, seed: int,
    out: Path, early: Path | None = None, gradual: bool = False, moments: Path | None = None,
    times: Path | None = None,
) -> None:  # fmt: skip
    """Writes the checkpoint without what round `number` (from 0) removes, and `plan.json`.

    Args:
        model: the checkpoint that was scored.
        scores: out of the score stage; the checkpoint in it, where there is one, takes the place of `model`; of an
            allocation that weighs losses up it holds the curves.
        prepared: out of the prepare stage; its training rows calibrate what is refitted.
        teacher: out of the train stage; holds what the dense model costs, of which shares are counted.
        criterion: by which it was scored.
        out: gets the checkpoint and the plan: for each layer and kind the units of the dense model that stay, those
            this round removed, and the score of each of the latter; the zeros of each matrix; what was measured, and
            what each matrix lost. `layers` are the dense model's numbers of the layers that names of groups and
            matrices count. Of single weights it says whether their zeros are to stay (`zeros`), or the share that is
            to go later (`gradual`); of a vocabulary that was pruned its sizes and proof. Where tokens are gone, the
            rebuilt tokenizer lies beside the checkpoint.
        early: checkpoint of the dense model early in its training, to whose weights goes back what stays.
        gradual: single weights stay; a share of them goes in the training that follows.
        moments: file of `tasks/reconstruct/apart.py`: what stays is refitted by these sums, in seconds.
        times: out of the table stage; needed where a goal is latency.

    Raises:
        UserError: the model has no such units, the criterion says nothing of them, or the goal is out of reach.
    """
    goal, last = settings.goals[number], number + 1 == len(settings.goals)
    source = load(scores / "model" if (scores / "model").is_dir() else model).to(device())
    source, tokens = with_vocabulary(source, model, prepared, goal, settings, out)
    importance = load_file(scores / "scores.safetensors")
    curves = read_json(scores / CURVES) if settings.curves else {}
    train = read_split(prepared, "train", out)
    sample, length, task = train.sample(settings.rows, seed), float(train.lengths.mean()), read_task(prepared)
    if times and goal.cost == LATENCY:
        priced: Priced = partial(by_table, source, read_json(times / FILE), goal.share)
    else:
        priced = partial(by_formula, source, read_json(teacher / SIZES), str(goal.cost), goal.share, length)
    losses = {name: {int(kept): lost for kept, lost in curve.items()} for name, curve in curves.items()}
    chosen = plan(source, importance, goal, settings, priced, losses)
    facts: dict[str, Any] = {"goal": goal.as_item(), "criterion": criterion, "allocation": settings.allocation}
    facts |= {"threshold": chosen.thresholds, "sensitivity": curves, "layers": dense_layers(source)}
    facts |= {"unselected": "remove" if last else settings.unselected, "errors": {}, "weights": []}
    weights = None if gradual else goal.kinds.get(WEIGHT)
    if facts["unselected"] != "remove":
        smaller = _anew(source, importance, chosen, criterion, weights, settings, seed + number, facts)
    else:
        batches = batched(sample, settings.batch_size, source.device)
        if moments and chosen.kept:
            facts["errors"] = refit(source, chosen.kept, load_file(moments))
        elif settings.reconstruct and chosen.kept and not early:
            rows = list(sample.by_length(settings.batch_size))
            anew = None if criterion not in ALONG else lambda outputs, batch: task.loss(outputs, sample, rows[batch])
            kept, facts["errors"] = reconstruct(source, chosen.kept, batches, settings.damping, anew)
            chosen = replace(chosen, kept=kept)
        smaller = shrink(source, chosen.kept) if chosen.kept else source
        if weights:
            left = of_what_stays(source, importance, chosen)
            thin(smaller, left, criterion, weights, batches, settings)
            stay = {matrix.tensor: matrix.read() != 0 for matrix in matrices(smaller)}
            facts["weights"] = removed_weights(smaller, stay, left)
        sparse = any(WEIGHT in past.kinds for past in settings.goals[: number + 1])
        if sparse and not gradual:
            facts["zeros"] = True
        if early:
            lasting = {matrix.tensor: matrix.parameter != 0 for matrix in matrices(smaller)} if sparse else {}
            smaller = rewind(smaller, dict(replay(as_read_by(load(early), out), smaller).named_parameters()), lasting)
    if gradual and WEIGHT in goal.kinds:
        facts["gradual"] = goal.kinds[WEIGHT].share
    save(smaller, out)
    write_json(out / "plan.json", {**facts, **tokens, "groups": removed_units(source, importance, chosen)})


def _anew(
    model: PreTrainedModel, scores: dict[str, Tensor], chosen: Plan, criterion: str, weights: Amount | None,
    settings: Prune, seed: int, facts: dict[str, Any],
) -> PreTrainedModel:  # fmt: skip
    """The model with what is not selected re-initialised; nothing goes."""
    groups = family_of(model.config.model_type).groups(model)
    kept = kept_entries(groups, dict(model.named_parameters()), chosen.kept)
    if weights:
        stay = masks(model, scores, criterion, weights)
        kept |= folded(model, stay)
        facts["weights"] = removed_weights(model, stay, scores)
    return reinitialize(model, kept, settings.unselected, seed)  # type: ignore[arg-type]
