"""The plan: which units of which layer stay, for what a round is to remove of the dense model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from tasks.allocate import ranked, uniform
from tasks.allocate.cost import Linear
from tasks.allocate.levels import Allocation, Cost, Levels
from tasks.allocate.sensitivity import equal_loss
from tasks.allocate.solve import solve
from tasks.allocate.units import Floats, Units, cost_at, norm, normalized, units_of
from tasks.core.errors import UserError
from tasks.families import family_of
from tasks.families.anatomy import LAYER, WIDTH, Family, Group
from tasks.modeling.shrink import dense_counts
from tasks.prune.costs import Priced, Prices
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
    priced: Priced,
    curves: Curves,
) -> Plan:
    """Chooses the units of `settings.units` that stay.

    Where a cost is the goal and a sublayer may go as well as its units, it goes with the last of them.

    Args:
        scores: importance by group.
        goal: what has to be gone afterwards, of the dense model.
        priced: what groups cost, in what the goal names.
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
        kept, compared, thresholds = _by_cost(model, groups, scores, settings, priced, curves)
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
        chosen[group.kind].append(unit.best(count) if count else [])
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


def _by_cost(
    model: PreTrainedModel, groups: Sequence[Group], scores: Mapping[str, Tensor], settings: Prune, priced: Priced,
    curves: Curves,
) -> tuple[dict[str, int], dict[str, Units], dict[str, float | None]]:  # fmt: skip
    """How many units each group keeps, what was compared, and the thresholds, where all kinds share one cost."""
    if LAYER in settings.units and len(settings.units) > 1:
        raise UserError("prune.kinds: whole layers and parts of layers cannot share one cost; give each a round")
    wholes = _wholes(family_of(model.config.model_type), settings.units)
    apart = [kind for kind in settings.units if kind not in wholes.values()]
    prices = priced(apart)
    compared = {}
    for kind in apart:
        for name, units in _units(model, groups, kind, scores, settings).items():
            cost = prices.costs.get(name)
            each = cost.unit if isinstance(cost, Linear) else units.cost
            compared[name] = replace(units, cost=each, empty=units.empty or kind in wholes)
    parts = {group.name: f"{wholes[group.kind]}.{group.layer}" for group in groups if group.kind in wholes}
    emptied = {part: {0: curves[whole][0]} for part, whole in parts.items() if curves}
    found = _within(compared, prices, settings, {n: {**curve, **emptied.get(n, {})} for n, curve in curves.items()})
    kept = found.kept | {whole: int(found.kept[part] > 0) for part, whole in parts.items()}
    return kept, compared, dict.fromkeys(apart, found.threshold)


def _wholes(family: Family, kinds: Sequence[str]) -> dict[str, str]:
    """Of the kinds, each that lies in a sublayer that is one of them, too, and this sublayer."""
    return {
        kind.name: kind.sublayer
        for kind in family.kinds
        if kind.name in kinds and kind.sublayer in kinds and kind.parts_of not in kinds
    }


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
    return _solved(units, Prices({}, cost_at(units, ratio)), settings, curves)


def _within(units: Mapping[str, Units], prices: Prices, settings: Prune, curves: Curves) -> Allocation[str]:
    if settings.allocation == "uniform":
        costs = {name: prices.costs.get(name, Linear(unit.cost)) for name, unit in units.items()}
        return uniform.by_budget(units, costs, prices.budget)
    if settings.allocation == "global":
        return ranked.by_budget(units, prices.budget)
    return _solved(units, prices, settings, curves)


def _solved(units: Mapping[str, Units], prices: Prices, settings: Prune, curves: Curves) -> Allocation[str]:
    there = {name: unit for name, unit in units.items() if len(unit.scores)}
    levels = {name: _levels(curves[name], prices.costs.get(name, Linear(unit.cost))) for name, unit in there.items()}
    return (equal_loss if settings.allocation == "sensitivity" else solve)(levels, prices.budget)


def _levels(losses: Mapping[int, float], cost: Cost) -> Levels:
    kept = np.array(sorted(losses), dtype=np.int64)
    # A level is no better than a larger one: what looks so is noise of the sample.
    found: Floats = np.array([losses[int(k)] for k in kept], dtype=np.float64)
    falling: Floats = np.maximum.accumulate(found[::-1])[::-1]
    return Levels(kept, falling, cost(kept))
