"""What is known of a trial: how far it came, its settings, its figures by level; and what they say of its worth."""

from collections.abc import Iterable, Sequence
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from flows.search.promote import expected
from tasks.recipe.budget import Check, judge
from tasks.recipe.schema import Recipe
from tasks.recipe.search import Objective

Figures = dict[str, float | str | None]
REACHED, VALUES, DRAFTS, CHOSEN = "reached", "values", "drafts", "chosen"
"""User attributes of a trial: its level, its settings, parameters and figures of its drafts, parameters of the best."""
LIVE = (TrialState.COMPLETE, TrialState.RUNNING)
DOUBT = 1.1
"""How many times as fast a draft may turn out to be as the table of times says."""
LITTLE = 0.01
"""The quality that may be lost where the budget does not say."""
COSTS = {"latency": "latency_share", "flops": "flops_share", "size": "parameters_share"}


def level_of(trial: FrozenTrial, number: int) -> Figures | None:
    """What a trial was worth at a level; None if it did not come there."""
    found: Figures | None = trial.user_attrs.get(f"level{number}")
    return found


def highest(trial: FrozenTrial) -> tuple[Figures, int] | None:
    """Figures at the last level that a trial came to, and its number; None before the first."""
    number = trial.user_attrs.get(REACHED)
    return None if number is None else (trial.user_attrs[f"level{number}"], number)


def drafts_of(trial: FrozenTrial) -> list[tuple[dict[str, Any], Figures]]:
    """Parameters and figures of what a trial was at its first level: of all that it chose from."""
    first = level_of(trial, 0)
    alone = [] if first is None else [(trial.params, first)]
    return [(one["params"], one["figures"]) for one in trial.user_attrs.get(DRAFTS, [])] or alone


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


def allowed(recipe: Recipe) -> float:
    """The quality that a model may lose."""
    return recipe.budget.max_drop or LITTLE


def foreseen(figures: Figures, number: int, trials: Iterable[FrozenTrial], recipe: Recipe) -> Figures:
    """Figures of level `number`, but what is lost is what is expected to be lost in the end, going by other trials."""
    last = len(recipe.search.levels) - 1
    if number == last:
        return figures
    ways = [(level_of(trial, number), level_of(trial, last)) for trial in trials]
    recovered = [(float(begin["drop"] or 0), float(end["drop"] or 0)) for begin, end in ways if begin and end]
    return {**figures, "drop": expected(float(figures["drop"] or 0), recovered, allowed(recipe))}


def in_the_end(draft: Figures, found: Figures, number: int, trials: Iterable[FrozenTrial], recipe: Recipe) -> Figures:
    """Figures of a draft, but what it loses is what its figures of level `number` let expect.

    Its quality is this loss too: drafts are judged on fewer texts, so that qualities are of several dense models.
    """
    lost = float(foreseen(found, number, trials, recipe)["drop"] or 0)
    return {**draft, "drop": lost, "quality": -lost}


def too_dear(figures: Figures, recipe: Recipe, level: float) -> list[Check]:
    """The limits on costs that a model misses; no training changes that. Of a draft the speed is but foretold."""
    doubt = 1.0 if level else DOUBT
    hoped = {key: float(one or 0) * doubt if key.startswith("speedup") else one for key, one in figures.items()}
    return [check for check in judge(recipe.budget, hoped) if check.name != "max_drop" and not check.met]


def excess(found: Sequence[Figures], study: Study, number: int, recipe: Recipe) -> list[float]:
    """What models at level `number` are expected to lose in the end, more than the budget allows."""
    if recipe.budget.max_drop is None:
        return [0.0] * len(found)
    trials = study.get_trials(deepcopy=False, states=LIVE)
    ends = [foreseen(one, number, trials, recipe) for one in found]
    return [float(end["drop"] or 0) - recipe.budget.max_drop for end in ends]
