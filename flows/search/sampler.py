"""Samplers by name, seeded for each trial anew: a search that was stopped goes on as if it had not been."""

from collections.abc import Callable, Sequence
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
from optuna.study import Study, create_study
from optuna.trial import FrozenTrial, TrialState, create_trial

from flows.search.figures import REACHED, constraints, foreseen, level_of, value
from tasks.recipe.schema import Recipe

TPE = "tpe"
FIRST = 5
"""Trials that TPE draws at random before it learns from them: half as many as Optuna's, for trials are few and dear."""
Make = Callable[[int], BaseSampler]


class NoTicket(Exception):
    """All trials that were asked for are taken."""


def sampler(recipe: Recipe) -> "PerTrial":
    """The one that a recipe names."""
    makes: dict[str, Make] = {
        TPE: lambda seed: TPESampler(seed=seed, n_startup_trials=FIRST),
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

    TPE is asked setting by setting. What it is asked before a trial is made it learns from what all trials were worth
    at their first level; otherwise those that were trained would seem better than those that were not.
    """

    def __init__(self, make: Make, recipe: Recipe) -> None:
        """Makes samplers by `make`, from a seed."""
        self._make, self._recipe = make, recipe
        self._inner = make(recipe.seed)
        self._first: Study | None = None

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Refuses a trial that has no ticket, and seeds the others.

        Raises:
            NoTicket: Another worker was quicker to take the last one.
        """
        if "ticket" not in trial.user_attrs:
            study.tell(trial.number, state=TrialState.FAIL)
            raise NoTicket
        number = trial.system_attrs.get("failed_trial", trial.number)
        self._inner = self._make((self._recipe.seed * 1_000_003 + number) % 2**31)
        self._inner.before_trial(study, trial)
        learns = self._recipe.search.sampler == TPE
        self._first = first_levels(study, trial.number, self._recipe) if learns else None

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
        """As the sampler of the trial does."""
        return self._inner.sample_independent(self._known(study, trial), trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """As the sampler of the trial does."""
        self._inner.after_trial(study, trial, state, values)

    def _known(self, study: Study, trial: FrozenTrial) -> Study:
        return study if self._first is None or REACHED in trial.user_attrs else self._first


def first_levels(study: Study, own: int, recipe: Recipe) -> Study:
    """A study of what the trials but `own` were worth at their first level, within the budget as far as is foreseen."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING))
    known = create_study(storage=InMemoryStorage(), directions=study.directions)
    for trial in trials:
        if trial.number == own:
            continue
        one = None if trial.state == TrialState.PRUNED else level_of(trial, 0)
        known.add_trial(
            create_trial(
                state=TrialState.COMPLETE if one else trial.state,
                params=trial.params,
                distributions=trial.distributions,
                values=[value(one, name) for name in recipe.search.objectives] if one else None,
                constraints=constraints(foreseen(one, 0, trials, recipe), recipe) if one else None,
            )
        )
    return known
