"""The plan: which units of which layer stay, for what a round is to remove of the dense model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from tasks.allocate import ranked, uniform
from tasks.allocate.cost import Linear
from tasks.allocate.levels import Allocation, Levels
from tasks.allocate.sensitivity import equal_loss
from tasks.allocate.solve import solve
from tasks.allocate.units import Floats, Units, cost_at, norm, normalized, units_of
from tasks.core.errors import UserError
from tasks.families import family_of
from tasks.families.anatomy import LAYER, WIDTH, Group
from tasks.modeling.shrink import dense_counts
from tasks.recipe.goal import Amount, Goal
from tasks.recipe.pruning import Prune

WEIGHT = "weight"
"""The kind whose units are single weights."""
Curves = Mapping[str, Mapping[int, float]]
"""What each group, by name, loses when it alone keeps some number of units."""


@dataclass(frozen=True)
class Margin:
    """How near to going the units of a group were, in what thresholds are compared with: block means."""

    divisor: float
    """What scores were divided by before they were compared: their norm if the plan normalizes, times a unit's cost."""
    lowest_kept: float | None
    """Of the blocks that stay of their own merit; None where none does."""
    highest_removed: float | None


@dataclass(frozen=True)
class Plan:
    """What stays."""

    kept: dict[str, list[list[int]]]
    """By kind, then by group in the order of the model's groups."""
    thresholds: dict[str, float | None] = field(default_factory=dict)
    """By kind, the score below which units go, where one serves all layers."""
    margins: dict[str, Margin] = field(default_factory=dict)
    """By group, what the threshold compares."""


def plan(
    model: PreTrainedModel,
    scores: Mapping[str, Tensor],
    goal: Goal,
    settings: Prune,
    costs: Mapping[str, Mapping[str, float]],
    budget: Callable[[str], float],
    curves: Curves,
) -> Plan:
    """Chooses the units of `settings.units` that stay.

    Args:
        scores: importance by group.
        goal: what has to be gone afterwards, of the dense model.
        costs: by group, what a unit costs in parameters and FLOPs.
        budget: of a cost, what the groups that are pruned may cost together for a share of the whole dense model to
            be gone; of each cost by its name.
        curves: of the allocations that weigh losses up.

    Raises:
        UserError: the family has no such units, the criterion says nothing of them, or the goal is out of reach.
    """
    groups = [group for group in family_of(model.config.model_type).groups(model) if group.kind in settings.units]
    _check(model, groups, scores, settings)
    kept: dict[str, int] = {}
    compared: dict[str, Units] = {}
    thresholds: dict[str, float | None] = {}
    if goal.cost:
        if LAYER in settings.units and len(settings.units) > 1:
            raise UserError("prune.kinds: whole layers and parts of layers cannot share one cost; give each a round")
        priced = {
            name: replace(units, cost=costs[name][goal.cost]) if name in costs else units
            for kind in settings.units
            for name, units in _units(model, groups, kind, scores, settings).items()
        }
        found = _within(priced, budget(goal.cost), settings, curves)
        kept, compared = found.kept, priced
        thresholds = dict.fromkeys(settings.units, found.threshold)
    for kind, amount in goal.kinds.items():
        if kind != WEIGHT:
            units = _units(model, groups, kind, scores, settings)
            found = _amount(units, amount, settings, curves)
            kept |= found.kept
            compared |= units
            thresholds[kind] = found.threshold
    chosen: dict[str, list[list[int]]] = {kind: [] for kind in settings.units}
    margins = {}
    for group in groups:
        unit = units_of(group, scores, settings.align)
        count = kept.get(group.name, group.count)
        chosen[group.kind].append(unit.best(count))
        ranked_as = compared.get(group.name, unit)
        divisor = ranked_as.cost * (norm(unit.scores) if settings.normalize else 1.0)
        margins[group.name] = Margin(divisor, *ranked.margin(ranked_as, count))
    return Plan({kind: units for kind, units in chosen.items() if units}, thresholds, margins)


def _check(model: PreTrainedModel, groups: Sequence[Group], scores: Mapping[str, Tensor], settings: Prune) -> None:
    family = family_of(model.config.model_type)
    known = {*(kind.name for kind in family.kinds), *family.sublayers, LAYER, WIDTH, WEIGHT}
    unknown = [kind for kind in settings.units if kind not in known]
    if unknown:
        raise UserError(
            f"prune.kinds: {', '.join(unknown)}; a {family.model_type} has {', '.join(sorted(known))}, and vocabulary"
        )
    silent = sorted({group.kind for group in groups if group.name not in scores})
    if WEIGHT in settings.kinds and not any(name.startswith(f"{WEIGHT}.") for name in scores):
        silent.append(WEIGHT)
    if silent:
        raise UserError(
            f"prune.kinds: {', '.join(silent)}; score.criterion says nothing of them, since it looks at what goes into "
            "single matrices, at gates, or at units alone; choose magnitude, taylor or fisher"
        )


def _units(
    model: PreTrainedModel, groups: Sequence[Group], kind: str, scores: Mapping[str, Tensor], settings: Prune
) -> dict[str, Units]:
    """The groups of a kind by name, with those that are gone altogether, which count for what the dense model had."""
    pruned = getattr(model.config, "pruned", None) or {}
    layers = pruned.get("layers", list(range(max((g.layer for g in groups), default=0) + 1)))
    dense = dense_counts(model)[kind]
    there = {layers[group.layer]: group for group in groups if group.kind == kind}
    units = {}
    for layer, count in enumerate(dense):
        if layer in there:
            units[there[layer].name] = units_of(there[layer], scores, settings.align, count)
        else:
            units[f"{kind}.gone.{layer}"] = Units(np.zeros(0), empty=True, dense=count)
    return normalized(units) if settings.normalize else units


def _amount(units: Mapping[str, Units], amount: Amount, settings: Prune, curves: Curves) -> Allocation[str]:
    """Units of one kind, each of the same cost."""
    full = sum(unit.full for unit in units.values())
    if amount.threshold is not None:
        return ranked.by_threshold(units, amount.threshold)
    ratio = amount.share if amount.share is not None else (amount.count or 0) / full
    if settings.allocation == "uniform":
        return uniform.by_ratio(units, ratio)
    if settings.allocation == "global":
        return ranked.by_ratio(units, ratio)
    return _solved(units, cost_at(units, ratio), settings, curves)


def _within(units: Mapping[str, Units], budget: float, settings: Prune, curves: Curves) -> Allocation[str]:
    if settings.allocation == "uniform":
        return uniform.by_budget(units, {name: Linear(unit.cost) for name, unit in units.items()}, budget)
    if settings.allocation == "global":
        return ranked.by_budget(units, budget)
    return _solved(units, budget, settings, curves)


def _solved(units: Mapping[str, Units], budget: float, settings: Prune, curves: Curves) -> Allocation[str]:
    there = {name: unit for name, unit in units.items() if len(unit.scores)}
    levels = {name: _levels(curves[name], unit.cost) for name, unit in there.items()}
    return (equal_loss if settings.allocation == "sensitivity" else solve)(levels, budget)


def _levels(losses: Mapping[int, float], cost: float) -> Levels:
    kept = np.array(sorted(losses), dtype=np.int64)
    # A level is no better than a larger one: what looks so is noise of the sample.
    found: Floats = np.array([losses[int(k)] for k in kept], dtype=np.float64)
    falling: Floats = np.maximum.accumulate(found[::-1])[::-1]
    return Levels(kept, falling, kept.astype(np.float64) * cost)
