"""What a trial cuts: the best of a few drafts, each drawn by what those before it were worth."""

import math
from typing import Any

import numpy as np
from optuna.trial import Trial, TrialState

from flows.limits import Beyond
from flows.search.figures import (
    CHOSEN,
    DRAFTS,
    LIVE,
    Figures,
    constraints,
    drafts_of,
    excess,
    losses,
    too_dear,
    value,
)
from flows.search.level import Bench
from flows.search.promote import ranking
from flows.search.sampler import TPE, first_levels, tpe
from flows.search.space import cheap, suggested
from tasks.core.errors import UserError
from tasks.recipe.load import changed
from tasks.recipe.schema import Recipe


def choose(trial: Trial, recipe: Recipe, bench: Bench, timed: bool) -> Figures | None:
    """Drafts `search.candidates` cuts and decides on the best; None where a trial is but its own draft.

    That is where drafts are all that is asked for, the first level is none, drafts are not made in seconds, the trial's
    settings are given, or the sampler gives whole points.

    Raises:
        UserError: no draft could be made, and why the last one could not.
        Beyond: as above.
    """
    search, trials = recipe.search, trial.study.get_trials(deepcopy=False)
    given = trials[trial.number].system_attrs.get("fixed_params")
    if given or search.sampler != TPE or search.levels[0] or len(search.levels) == 1 or not cheap(recipe):
        return None
    others = [one for one in trials if one.number != trial.number]
    known = first_levels(others, recipe, trial.study.directions)
    known.sampler = tpe(recipe, trials[trial.number])
    names: list[str] = []
    made: list[tuple[dict[str, Any], Figures]] = []
    for number in range(search.candidates):
        one, name = known.ask(), f"draft{number}"
        try:
            values = suggested(one, recipe, 0)
            figures = bench.reach(changed(recipe, {**values, "search.space": None}), name, 0, timed)
        except (UserError, Beyond):
            known.tell(one, state=TrialState.PRUNED)
            if number + 1 == search.candidates and not made:
                raise
            continue
        names.append(name)
        made.append((one.params, figures))
        for limit, broken in constraints(figures, recipe).items():
            one.set_constraint(limit, broken)
        known.tell(one, [value(figures, objective) for objective in search.objectives])
    at = _best([figures for _, figures in made], trial, recipe)
    params, figures = made[at]
    bench.settle(names[at], "level0")
    trial.set_user_attr(DRAFTS, [{"params": params, "figures": figures} for params, figures in made])
    trial.set_user_attr(CHOSEN, params)
    return figures


def _best(made: list[Figures], trial: Trial, recipe: Recipe) -> int:
    """Which of them ranks highest among all drafts so far."""
    others = [one for one in trial.study.get_trials(deepcopy=False, states=LIVE) if one.number != trial.number]
    before = [figures for one in others for _, figures in drafts_of(one) if not too_dear(figures, recipe, 0)]
    over = excess([*before, *made], trial.study, 0, recipe)
    over[len(before) :] = [
        math.inf if too_dear(one, recipe, 0) else more for one, more in zip(made, over[len(before) :], strict=True)
    ]
    found = np.array([losses(one, recipe) for one in (*before, *made)])
    return next(at - len(before) for at in ranking(found, over) if at >= len(before))
