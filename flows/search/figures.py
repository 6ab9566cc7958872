"""What is known of a trial: how far it came, its settings, its figures by level; and what they say of its worth."""

from collections.abc import Iterable

from optuna.trial import FrozenTrial

from flows.search.promote import expected
from tasks.recipe.budget import judge
from tasks.recipe.schema import Recipe
from tasks.recipe.search import Objective

Figures = dict[str, float | str | None]
REACHED, VALUES = "reached", "values"
"""User attributes of a trial: its level, its settings."""
COSTS = {"latency": "latency_share", "flops": "flops_share", "size": "parameters_share"}


def level_of(trial: FrozenTrial, number: int) -> Figures | None:
    """What a trial was worth at a level; None if it did not come there."""
    found: Figures | None = trial.user_attrs.get(f"level{number}")
    return found


def value(figures: Figures, objective: Objective) -> float:
    """A figure as the study has it: quality, or a share of the dense model's cost."""
    return float(figures["quality" if objective == "quality" else COSTS[objective]] or 0.0)


def losses(figures: Figures, recipe: Recipe) -> list[float]:
    """The objectives, all of them better when smaller."""
    return [(-1 if name == "quality" else 1) * value(figures, name) for name in recipe.search.objectives]


def constraints(figures: Figures, recipe: Recipe) -> dict[str, float]:
    """By limit of the budget how far a model is beyond it: 0 or less if it is within."""
    found = {}
    for check in judge(recipe.budget, figures):
        reached = check.limit if check.reached is None else check.reached
        broken = reached - check.limit if check.name.startswith("max_") else check.limit - reached
        found[check.name] = min(broken, 0.0) if check.met else max(broken, 1e-9)
    return found


def foreseen(figures: Figures, number: int, trials: Iterable[FrozenTrial], recipe: Recipe) -> Figures:
    """Figures of level `number`, but what is lost is what is expected to be lost in the end, going by other trials."""
    last = len(recipe.search.levels) - 1
    ways = [(level_of(trial, number), level_of(trial, last)) for trial in trials]
    recovered = [(float(begin["drop"] or 0), float(end["drop"] or 0)) for begin, end in ways if begin and end]
    return {**figures, "drop": expected(float(figures["drop"] or 0), recovered)}
