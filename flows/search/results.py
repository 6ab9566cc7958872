"""What came out of a search: the best trial, the front, its knee, which settings matter; as report.json and a page."""

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from optuna.importance import get_param_importances
from optuna.study import Study, create_study
from optuna.trial import FrozenTrial, TrialState

from flows.progress import Progress
from flows.search.figures import REACHED, VALUES, drafts_of, level_of, losses
from flows.search.place import Place
from flows.search.promote import from_ideal, fronts
from flows.search.space import decoded
from flows.search.storage import DONE, ENDED
from flows.search.trial import chosen
from tasks.core.files import write_json
from tasks.recipe.budget import judge
from tasks.recipe.schema import Recipe


def finished(trials: Sequence[FrozenTrial], recipe: Recipe) -> list[FrozenTrial]:
    """The trials that came to the last level: only these can be compared."""
    last = len(recipe.search.levels) - 1
    return [t for t in trials if t.state == TrialState.COMPLETE and t.user_attrs.get(REACHED) == last]


def figures(trial: FrozenTrial) -> dict[str, Any]:
    """What a trial was worth where it ended."""
    return dict(level_of(trial, trial.user_attrs[REACHED]) or {})


def front(trials: Sequence[FrozenTrial], recipe: Recipe) -> list[FrozenTrial]:
    """The finished trials that no other beats in all objectives, the best in the first of them first."""
    known = finished(trials, recipe)
    if not known:
        return []
    values = np.array([losses(figures(trial), recipe) for trial in known])
    rank = fronts(values)
    return [known[at] for at in np.lexsort(values.T[::-1]) if rank[at] == 0]


def best(trials: Sequence[FrozenTrial], recipe: Recipe) -> FrozenTrial | None:
    """As a run chooses among its models: the fastest that keeps the quality, one within the whole budget first."""
    known = {trial.number: trial for trial in finished(trials, recipe)}
    number = chosen({number: figures(trial) for number, trial in known.items()}, recipe)
    return None if number is None else known[number]


def kept(trials: Sequence[FrozenTrial], recipe: Recipe) -> list[FrozenTrial]:
    """The trials whose models are handed over: the front, and the best one last if it is not on it."""
    ahead, first = front(trials, recipe), best(trials, recipe)
    return ahead if first is None or first in ahead else [*ahead, first]


def knee(trials: Sequence[FrozenTrial], recipe: Recipe) -> FrozenTrial | None:
    """The trial of a front nearest to the point that has the best of every objective, each from 0 to 1."""
    if not trials:
        return None
    values = np.array([losses(figures(trial), recipe) for trial in trials])
    return trials[int(np.argmin(from_ideal(values)))]


def importances(study: Study, recipe: Recipe) -> dict[str, dict[str, float]]:
    """By objective the share of each setting in what the better trials have in common (PED-ANOVA)."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    trained = [trial for trial in done if trial.user_attrs.get(REACHED)]
    done = trained if len(trained) > 3 else done  # a draft does not depend on how it would be trained
    found: dict[str, dict[str, float]] = {}
    for number, name in enumerate(recipe.search.objectives):
        if len({trial.values[number] for trial in done}) > 1:
            part = create_study(directions=study.directions)
            part.add_trials(done)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # it says that low targets are good; losses are
                shares = get_param_importances(part, target=partial(_loss, recipe, number))
            found[name] = {key: float(share) for key, share in shares.items()}
    return found


def words(trial: FrozenTrial, recipe: Recipe) -> str:
    """A trial's objectives."""
    return ", ".join(
        f"{name} {number:.3f}" for name, number in zip(recipe.search.objectives, trial.values, strict=True)
    )


def facts(place: Place, recipe: Recipe, study: Study) -> dict[str, Any]:
    """All that the report shows, as plain values."""
    trials = study.get_trials(deepcopy=False, states=DONE)
    first, ahead = best(trials, recipe), front(trials, recipe)
    middle = knee(ahead, recipe)
    return {
        "name": place.name,
        "metric": recipe.task.metric,
        "objectives": list(recipe.search.objectives),
        "levels": list(recipe.search.levels),
        "space": sorted(recipe.search.space or {}),
        "log": sorted(key for key, one in (recipe.search.space or {}).items() if getattr(one, "log", False)),
        "budget": {key: limit for key, limit in recipe.budget.model_dump().items() if limit is not None},
        "best": first.number if first else None,
        "knee": middle.number if middle else None,
        "front": [trial.number for trial in ahead],
        "importances": importances(study, recipe),
        "trials": [_facts(trial, recipe) for trial in trials],
    }


def finish(place: Place, recipe: Recipe, study: Study, progress: Progress) -> None:
    """Writes the report and says what came out."""
    from tasks.report.search import search_report

    place.report.mkdir(exist_ok=True)
    found = facts(place, recipe, study)
    write_json(place.report / "report.json", found)
    search_report(found, place.report)
    done = {trial.number: trial for trial in study.get_trials(deepcopy=False, states=DONE)}
    for number in [trial.number for trial in kept(list(done.values()), recipe)]:
        marks = [mark for mark in ("best", "knee") if found[mark] == number]
        said = f" ({', '.join(marks)})" if marks else ""
        where = "front" if number in found["front"] else "beside the front"
        progress.say(f"{where}: trial {number}, {words(done[number], recipe)}{said}")
    if found["best"] is None:
        progress.say("no trial that was made to its end keeps the quality that the budget asks for")
    progress.say(f"{len(done)} trials; report: {(place.report / 'report.html').relative_to(place.root)}")


def _loss(recipe: Recipe, number: int, trial: FrozenTrial) -> float:
    return losses(figures(trial), recipe)[number]


def _facts(trial: FrozenTrial, recipe: Recipe) -> dict[str, Any]:
    reached = trial.user_attrs.get(REACHED)
    curve = [level_of(trial, number) for number in range(0 if reached is None else reached + 1)]
    found = figures(trial) if reached is not None else {}
    return {
        "number": trial.number,
        "settings": trial.user_attrs.get(VALUES, {}),
        "drafts": [
            {"settings": decoded(recipe, params), "figures": one}
            for params, one in drafts_of(trial)
            if reached is not None
        ],
        "level": None if reached is None else recipe.search.levels[reached],
        "ended": trial.user_attrs.get(ENDED),
        "figures": found,
        "qualities": [one["quality"] for one in curve if one],
        "checks": [{"name": c.name, "met": c.met, "said": str(c)} for c in judge(recipe.budget, found)],
    }
