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
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

FIRST = 5
"""Trials that TPE draws at random before it learns from them: half as many as Optuna's, for trials are few and dear."""
Make = Callable[[int], BaseSampler]


class NoTicket(Exception):
    """All trials that were asked for are taken."""


def sampler(name: str, seed: int) -> "PerTrial":
    """The sampler of that name in a recipe."""
    makes: dict[str, Make] = {
        "tpe": lambda seed: TPESampler(seed=seed, n_startup_trials=FIRST),
        "random": lambda seed: RandomSampler(seed=seed),
        "nsgaii": lambda seed: NSGAIISampler(seed=seed),
        "gp": lambda seed: GPSampler(seed=seed),
    }
    if name == "qmc":  # its sequence has one seed; the storage counts its points
        one = QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
        return PerTrial(lambda _: one, seed)
    return PerTrial(makes[name], seed)


class PerTrial(BaseSampler):
    """A fresh sampler for each trial, seeded by the search's seed and the trial's first number."""

    def __init__(self, make: Make, seed: int) -> None:
        """Makes samplers by `make`, from a seed."""
        self._make = make
        self._seed = seed
        self._inner = make(seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Refuses a trial that has no ticket, and seeds the others.

        Raises:
            NoTicket: Another worker was quicker to take the last one.
        """
        if "ticket" not in trial.user_attrs:
            study.tell(trial.number, state=TrialState.FAIL)
            raise NoTicket
        number = trial.system_attrs.get("failed_trial", trial.number)
        self._inner = self._make((self._seed * 1_000_003 + number) % 2**31)
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As the sampler of the trial does."""
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As the sampler of the trial does."""
        return self._inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As the sampler of the trial does."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """As the sampler of the trial does."""
        self._inner.after_trial(study, trial, state, values)
