"""A search in MLflow: a run for it, below it one for each trial; logged by the search alone, twice changes nothing.

All that is logged is read from the study, so a server that goes away is told later what it missed.
"""

import contextlib
from collections.abc import Callable
from types import TracebackType

from mlflow.entities import Metric, Param
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from flows.database import Away, address, connect, words
from flows.measurements import flat, numbers
from flows.redact import redacted
from flows.registry import Registry
from flows.search.figures import VALUES, Figures, level_of
from flows.search.level import FORETOLD, SPEED
from flows.search.place import Place
from flows.search.results import best, figures, kept
from flows.search.storage import DONE, ENDED, first_number
from flows.sending import Sending
from flows.tracking import PARENT, experiment_of
from flows.workspace import identity
from tasks.recipe.schema import Recipe

SEARCH, TRIAL = "search", "search.trial"
"""Tags: which search of which workspace, and the number of the trial when it was first taken up."""
TIMES = ("latency", "throughput", "speedup")
"""How the figures begin that a draft has from the table of times."""
LABEL = "search"
"""Of the registered models: NAME-search."""


class Records:
    """The runs of one search; use it in a `with` block."""

    def __init__(self, place: Place, recipe: Recipe, study: Study, say: Callable[[str], None]) -> None:
        """Connects, and makes the experiment if need be.

        Args:
            place: The search's.
            recipe: The one that trials are changes of.
            study: Its trials.
            say: Told when the server goes away, and when it is back.

        Raises:
            EnvironmentFault: The tracking server does not answer.
        """
        self.place, self.recipe, self.study = place, recipe, study
        self.key = f"{identity(place.root)}:{place.name}"
        self.uri = address(place.root)
        self.client = connect(place.root)
        with words(self.uri):
            self.experiment = experiment_of(self.client, place.root, recipe.name, self.uri)
        self.run = ""
        self._runs: dict[int, str] = {}
        self._levels: dict[int, int] = {}
        self._settled: set[int] = set()
        self._sending = Sending(self.uri, self._sync, "the search goes on, and is recorded when it answers", say)

    def __enter__(self) -> "Records":
        self._known()
        return self

    def _known(self) -> None:
        """Takes up what the server has of this search; makes the search's run if it has none."""
        with words(self.uri):
            found = self.client.search_runs([self.experiment], f"tags.{SEARCH} = '{self.key}'", max_results=50_000)
            for run in found:
                number = run.data.tags.get(TRIAL)
                if number is None:
                    self.run = run.info.run_id
                    self.client.update_run(self.run, status="RUNNING")
                    continue
                self._runs[int(number)] = run.info.run_id
                self._levels[int(number)] = int(run.data.tags.get("levels", 0))
                if run.info.status == "RUNNING" and not self._sending.away:  # its search was killed
                    self.client.set_terminated(run.info.run_id, "KILLED")
                if run.info.status == "FINISHED":
                    self._settled.add(int(number))
            if not self.run:
                self.run = self._create(f"search {self.place.name}", {SEARCH: self.key})
                self._params(self.run, flat(self.recipe.model_dump(mode="json")))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self._sending.settle("the same command records what is missing")
        with contextlib.suppress(Away) if kind else contextlib.nullcontext(), words(self.uri):
            if kind is None:
                self._models()
                self.client.log_artifacts(self.run, str(self.place.report), "report")
            for number, run in self._runs.items():
                if number not in self._settled:
                    self.client.set_terminated(run, "KILLED")
            failed = "FAILED" if kind and issubclass(kind, Exception) else "KILLED"
            self.client.set_terminated(self.run, failed if kind else "FINISHED")

    def sync(self) -> None:
        """Logs what the trials came to since the last call, if the server answers.

        Raises:
            EnvironmentFault: MLflow refuses it, or its database is this workspace's own and fails.
        """
        self._sending.send()

    def _sync(self) -> None:
        if self._sending.away:
            self._known()  # what it took before it went
        with words(self.uri):
            for trial in self.study.get_trials(deepcopy=False, states=(*DONE, TrialState.RUNNING)):
                if first_number(trial) not in self._settled and VALUES in trial.user_attrs:
                    self._trial(trial)

    def _trial(self, trial: FrozenTrial) -> None:
        number = first_number(trial)
        if number not in self._runs:
            tags = {SEARCH: self.key, TRIAL: str(number), PARENT: self.run}
            self._runs[number] = self._create(f"trial {number}", tags)
            self._params(self._runs[number], flat(trial.user_attrs[VALUES]))
        run = self._runs[number]
        while (found := level_of(trial, self._levels.get(number, 0))) is not None:
            level = self._levels.get(number, 0)
            self._params(run, flat(trial.user_attrs[VALUES]))  # the level may have asked for more of them
            self.client.log_batch(run, metrics=[Metric(key, one, 0, level) for key, one in metrics(found).items()])
            self._curves(run, number, level)
            self._levels[number] = level + 1
            self.client.set_tag(run, "levels", str(level + 1))
        if trial.state in DONE:
            if ENDED in trial.user_attrs:
                self.client.set_tag(run, ENDED, trial.user_attrs[ENDED][:500])
            self.client.set_terminated(run, "FINISHED")
            self._settled.add(number)

    def _curves(self, run: str, number: int, level: int) -> None:
        """The curves of the trainings of a level."""
        for directory in sorted(self.place.trial(number).glob(f"level{level}/models/rounds/r*")):
            curves = [one for one in numbers(directory) if one.name.startswith("training.")]
            points = [Metric(f"level{level}.{directory.name}.{one.name}", one.value, 0, one.step) for one in curves]
            for at in range(0, len(points), 1000):
                self.client.log_batch(run, metrics=points[at : at + 1000])

    def _models(self) -> None:
        """The front's models as versions of one registered model; the best one is the current version."""
        registry = Registry(self.client, self.uri, self.experiment, self.recipe.name)
        done = self.study.get_trials(deepcopy=False, states=DONE)
        first = best(done, self.recipe)
        for trial in sorted(kept(done, self.recipe), key=lambda one: first is not None and one.number == first.number):
            found, number = figures(trial), first_number(trial)
            home = self.place.trial(number) / f"level{len(self.recipe.search.levels) - 1}" / str(found["model"])
            if home.is_dir():
                facts = {"stage": "search", "out_md5": found["sha256"], "search.trial": str(trial.number)}
                registry.publish(LABEL, home, self._runs[number], facts)

    def _create(self, name: str, tags: dict[str, str]) -> str:
        return str(self.client.create_run(self.experiment, run_name=name, tags=tags).info.run_id)

    def _params(self, run: str, values: dict[str, str]) -> None:
        params = [Param(key, redacted(one)[:6000]) for key, one in values.items()]
        for at in range(0, len(params), 100):
            self.client.log_batch(run, params=params[at : at + 100])


def metrics(found: Figures) -> dict[str, float]:
    """The numbers of a level by their names in MLflow: a speed that was not measured says so."""
    said = FORETOLD + "." if found.get(SPEED) == FORETOLD else ""
    values = {key: float(one) for key, one in found.items() if isinstance(one, int | float)}
    return {said + key if key.startswith(TIMES) else key: one for key, one in values.items()}
