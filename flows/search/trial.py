"""One trial: a recipe of the space, made level by level while it is worth it."""

import shutil
import time
from collections.abc import Callable, Mapping

import numpy as np
from optuna.exceptions import TrialPruned
from optuna.study import Study
from optuna.trial import Trial

from flows.limits import Beyond
from flows.search.drafts import choose
from flows.search.figures import (
    LIVE,
    REACHED,
    VALUES,
    Figures,
    constraints,
    excess,
    level_of,
    losses,
    too_dear,
    value,
)
from flows.search.level import Bench
from flows.search.place import Place, alone
from flows.search.promote import fronts, goes_on
from flows.search.space import suggested
from flows.search.storage import ENDED, WORKER, first_number
from tasks.core.errors import UserError
from tasks.recipe.budget import best, judge
from tasks.recipe.job import Job
from tasks.recipe.load import changed
from tasks.recipe.schema import Recipe


def trying(place: Place, recipe: Recipe, worker: str, work: Callable[[Job], None]) -> Callable[[Trial], list[float]]:
    """What Optuna calls for each trial.

    Args:
        place: The search's.
        recipe: The one that trials are changes of.
        worker: Who does it, as `requeue` knows it.
        work: Does a job.
    """

    def objective(trial: Trial) -> list[float]:
        trial.set_user_attr(WORKER, worker)
        home = place.trial(first_number(trial.study.get_trials(deepcopy=False)[trial.number]))
        try:
            with alone(home.with_suffix(".lock")):  # from a worker that was thought dead and is not
                figures = _levels(trial, recipe, Bench(place.root, home, place.shared, work))
        except (UserError, Beyond) as error:  # settings that are right each by itself may ask for what no model has
            trial.set_user_attr(ENDED, str(error))
            shutil.rmtree(home, ignore_errors=True)
            raise TrialPruned(str(error)) from error
        for name, broken in constraints(figures, recipe).items():
            trial.set_constraint(name, broken)
        if not _worth_keeping(trial, figures, recipe):
            for pattern in ("**/provenance.json", "models/**/*.safetensors", "models/**/*.onnx"):
                for path in home.glob(f"level*/{pattern}"):
                    path.unlink()  # what stays is small; without its provenance it is no out
        return [value(figures, name) for name in recipe.search.objectives]

    return objective


def _levels(trial: Trial, recipe: Recipe, bench: Bench) -> Figures:
    """Goes up the levels as far as the trial is worth it; the figures of the last one."""
    search, budget = recipe.search, recipe.budget
    timed = bool(budget.speedup_b1 or budget.speedup_b32 or "latency" in search.objectives)
    figures: Figures = {}
    for number, level in enumerate(search.levels):
        started = time.monotonic()
        drawn = choose(trial, recipe, bench, timed) if number == 0 else None
        values = suggested(trial, recipe, level)
        trial.set_user_attr(VALUES, values)
        figures = drawn or bench.reach(
            changed(recipe, {**values, "search.space": None}), f"level{number}", level, timed
        )
        figures["seconds"] = time.monotonic() - started
        trial.set_user_attr(f"level{number}", figures)
        trial.set_user_attr(REACHED, number)
        if number + 1 == len(search.levels):
            break
        if missed := too_dear(figures, recipe, level):
            trial.set_user_attr(ENDED, f"cannot meet the budget: {'; '.join(map(str, missed))}")
            break
        others = [found for found in _at(trial.study, trial.number, number) if not too_dear(found, recipe, level)]
        peers = [losses(found, recipe) for found in others]
        over = excess([*others, figures], trial.study, number, recipe)
        if not goes_on(losses(figures, recipe), peers, over, search.reduction):
            trial.set_user_attr(
                ENDED, f"not among the best {1 / search.reduction:.0%} of {len(peers) + 1} at its level"
            )
            break
    return figures


def _at(study: Study, own: int, number: int) -> list[Figures]:
    """What the other trials were worth at a level."""
    trials = [trial for trial in study.get_trials(deepcopy=False, states=LIVE) if trial.number != own]
    return [found for trial in trials if (found := level_of(trial, number)) is not None]


def chosen(found: Mapping[int, Figures], recipe: Recipe) -> int | None:
    """Of trials at the last level, by number, the one that a run would choose; see `tasks/recipe/budget.py`."""
    models = {str(number): {**one, "validation_drop": one["drop"]} for number, one in found.items()}
    name = best({str(number): judge(recipe.budget, one) for number, one in found.items()}, models)
    return int(name) if name else None


def _worth_keeping(trial: Trial, figures: Figures, recipe: Recipe) -> bool:
    """Whether no other trial at the last level is better in all objectives, or it is the one that would be chosen."""
    last = len(recipe.search.levels) - 1
    if trial.user_attrs[REACHED] < last:
        return False
    rivals = _at(trial.study, trial.number, last)
    front = fronts(np.array([losses(found, recipe) for found in (*rivals, figures)]))
    return bool(front[-1] == 0) or chosen(dict(enumerate([*rivals, figures])), recipe) == len(rivals)
