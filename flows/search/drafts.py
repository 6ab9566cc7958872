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
    highest,
    in_the_end,
    losses,
    too_dear,
    value,
)
from flows.search.level import Bench
from flows.search.promote import hypervolume, ranking
from flows.search.sampler import TPE, cuts, tpe
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
    known = cuts(others, recipe, trial.study.directions)
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
        end = in_the_end(figures, figures, 0, others, recipe)
        for limit, broken in constraints(end, recipe).items():
            one.set_constraint(limit, broken)
        known.tell(one, [value(end, objective) for objective in search.objectives])
    at = _best([figures for _, figures in made], trial, recipe)
    params, figures = made[at]
    bench.settle(names[at], "level0")
    trial.set_user_attr(DRAFTS, [{"params": params, "figures": figures} for params, figures in made])
    trial.set_user_attr(CHOSEN, params)
    return figures


def _best(made: list[Figures], trial: Trial, recipe: Recipe) -> int:
    """Which of them adds most to the hypervolume of the trials, as seen or as foreseen; if none does, the best of them.

    The corner is the quality that the budget keeps, and the worst that any draft has of the other objectives. Costs are
    those of drafts throughout, for what is measured is not what was foretold; what was cut before adds nothing.
    """
    search, last = recipe.search, len(recipe.search.levels) - 1
    trials = trial.study.get_trials(deepcopy=False, states=LIVE)
    others = [one for one in trials if one.number != trial.number]
    known = [(one.state, one.user_attrs["level0"], *top) for one in others if (top := highest(one))]

    def lost(draft: Figures, found: Figures, number: int) -> list[float]:
        return losses(in_the_end(draft, found, number, others, recipe), recipe)

    ahead = np.array([lost(one, one, 0) for one in made])
    corner = np.max([*(lost(one, one, 0) for other in others for _, one in drafts_of(other)), *ahead], axis=0)
    if recipe.budget.max_drop is not None:
        corner[[name == "quality" for name in search.objectives]] = recipe.budget.max_drop
    front = [lost(*one) for state, *one in known if one[-1] == last or state == TrialState.RUNNING]
    cut = {draft["sha256"] for _, draft, *_ in known}
    idle = [bool(too_dear(one, recipe, 0)) or one["sha256"] in cut for one in made]
    volumes = np.array([hypervolume(np.array([*front, one]), corner) for one in ahead])
    gains = np.where(idle, 0.0, volumes - hypervolume(np.array([*front, corner]), corner))
    if gains.max() > 0:
        return int(gains.argmax())
    over = [math.inf if out else more for out, more in zip(idle, excess(made, trial.study, 0, recipe), strict=True)]
    return ranking(ahead, over)[0]
