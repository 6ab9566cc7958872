"""Samplers by name, seeded for each trial anew: a search that was stopped goes on as if it had not been."""

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.storages import InMemoryStorage
from optuna.study import Study, StudyDirection, create_study
from optuna.trial import FrozenTrial, TrialState, create_trial

from flows.search.figures import CHOSEN, REACHED, allowed, constraints, drafts_of, highest, in_the_end, level_of, value
from flows.search.promote import expected
from tasks.recipe.schema import Recipe
from tasks.recipe.search import trains

TPE = "tpe"
FIRST = 5
"""Trials that TPE draws at random before it learns from them: half as many as Optuna's, for trials are few and dear."""
THIRD = 3
"""How often new settings of training are drawn."""
Make = Callable[[int], BaseSampler]


class NoTicket(Exception):
    """All trials that were asked for are taken."""


def sampler(recipe: Recipe) -> "PerTrial":
    """The one that a recipe names."""
    makes: dict[str, Make] = {
        TPE: _tpe,
        "random": lambda seed: RandomSampler(seed=seed),
        "nsgaii": lambda seed: NSGAIISampler(seed=seed),
        "gp": lambda seed: GPSampler(seed=seed),
    }
    if recipe.search.sampler == "qmc":  # its sequence has one seed; the storage counts its points
        one = QMCSampler(seed=recipe.seed, scramble=True, warn_independent_sampling=False)
        return PerTrial(lambda _: one, recipe)
    return PerTrial(makes[recipe.search.sampler], recipe)


class PerTrial(BaseSampler):
    """A fresh sampler for each trial, seeded by the search's seed and the trial's first number.

    TPE is asked setting by setting. What to cut, asked before a trial is made, it learns from what all drafts lose in
    the end, as seen or as foreseen; otherwise those that were trained would seem better than those that were not. How
    to train it learns from what training recovered, whatever was cut. All but every third trial train by the settings
    that recovered most so far: trials are few, and of a good cut that is trained badly nothing is seen.
    """

    def __init__(self, make: Make, recipe: Recipe) -> None:
        """Makes samplers by `make`, from a seed."""
        self._make, self._recipe = make, recipe
        self._inner = make(recipe.seed)
        self._cuts: Study | None = None
        self._recoveries: Study | None = None
        self._again: dict[str, Any] = {}

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Refuses a trial that has no ticket, and seeds the others.

        Raises:
            NoTicket: Another worker was quicker to take the last one.
        """
        if "ticket" not in trial.user_attrs:
            study.tell(trial.number, state=TrialState.FAIL)
            raise NoTicket
        self._inner = self._make(_seed(self._recipe, trial))
        self._inner.before_trial(study, trial)
        if self._recipe.search.sampler == TPE:
            others = [one for one in study.get_trials(deepcopy=False) if one.number != trial.number]
            self._cuts = cuts(others, self._recipe, study.directions)
            self._recoveries = recoveries(others, self._recipe)
            trained = self._recoveries.trials
            self._again = most_recovered(trained) if len(trained) % THIRD else {}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As the sampler of the trial does."""
        return self._inner.infer_relative_search_space(self._known(study, trial), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As the sampler of the trial does."""
        return self._inner.sample_relative(self._known(study, trial), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As the sampler of the trial does, if nothing else was decided."""
        decided = self._again if REACHED in trial.user_attrs else trial.user_attrs.get(CHOSEN, {})
        if param_name in decided:
            return decided[param_name]
        return self._inner.sample_independent(self._known(study, trial), trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """As the sampler of the trial does."""
        self._inner.after_trial(study, trial, state, values)

    def _known(self, study: Study, trial: FrozenTrial) -> Study:
        known = self._recoveries if REACHED in trial.user_attrs else self._cuts
        return study if known is None else known


def tpe(recipe: Recipe, trial: FrozenTrial) -> BaseSampler:
    """The one that draws what a trial may cut."""
    return _tpe(_seed(recipe, trial))


def cuts(trials: Sequence[FrozenTrial], recipe: Recipe, directions: Sequence[StudyDirection]) -> Study:
    """A study of what all drafts will have lost in the end; a trial's own as far as it came, the others as foreseen."""
    known = create_study(storage=InMemoryStorage(), directions=directions)
    for trial in trials:
        if trial.state == TrialState.PRUNED:  # there is no such model
            known.add_trial(create_trial(state=trial.state, params=trial.params, distributions=trial.distributions))
        for params, one in drafts_of(trial):
            top = highest(trial) if params == trial.user_attrs.get(CHOSEN, trial.params) else None
            end = in_the_end(one, *(top or (one, 0)), trials, recipe)
            values = [value(end, name) for name in recipe.search.objectives]
            known.add_trial(_known(trial, params, values, constraints(end, recipe)))
    return known


def recoveries(trials: Sequence[FrozenTrial], recipe: Recipe) -> Study:
    """A study of how trials were trained: what they lost at their second level, less what was expected of them."""
    known = create_study(storage=InMemoryStorage())
    ways = [(trial, level_of(trial, 0), level_of(trial, 1)) for trial in trials]
    made = [(trial, float(begin["drop"] or 0), float(end["drop"] or 0)) for trial, begin, end in ways if begin and end]
    for trial, begin, end in made:
        surplus = end - expected(begin, [(before, after) for _, before, after in made], allowed(recipe))
        known.add_trial(_known(trial, {key: one for key, one in trial.params.items() if trains(key)}, [surplus]))
    return known


def most_recovered(trained: Sequence[FrozenTrial]) -> dict[str, Any]:
    """The parameters that lost least in the mean of their trials and a middling one more: one alone may be luck."""
    surplus: dict[str, list[float]] = {}
    for one in trained:
        surplus.setdefault(str(one.params), []).append(one.value or 0.0)
    middling = fmean(one.value or 0.0 for one in trained)
    return min(trained, key=lambda one: fmean([middling, *surplus[str(one.params)]])).params


def _known(
    trial: FrozenTrial, params: dict[str, Any], values: Sequence[float], limits: dict[str, float] | None = None
) -> FrozenTrial:
    ranges = {name: trial.distributions[name] for name in params}
    return create_trial(params=params, distributions=ranges, values=values, constraints=limits)


def _tpe(seed: int) -> BaseSampler:
    return TPESampler(seed=seed, n_startup_trials=FIRST)


def _seed(recipe: Recipe, trial: FrozenTrial) -> int:
    return int(recipe.seed * 1_000_003 + trial.system_attrs.get("failed_trial", trial.number)) % 2**31
