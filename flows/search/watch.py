"""What a search shows: on a terminal one live line, elsewhere a line for each trial that is done."""

import time
from types import TracebackType

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from flows.progress import Progress
from flows.search.figures import REACHED
from flows.search.place import Place
from flows.search.results import best, front, words
from flows.search.storage import DONE, ENDED
from tasks.recipe.schema import Recipe


class Watch:
    """Follows the trials in the storage; use it in a `with` block."""

    def __init__(self, progress: Progress, place: Place, recipe: Recipe, study: Study, trials: int) -> None:
        """Shows nothing yet; what was done before is not told again."""
        self.progress, self.recipe, self.study, self.trials = progress, recipe, study, trials
        self.told = {trial.number for trial in study.get_trials(deepcopy=False, states=DONE)}
        self.bars = Bars(
            SpinnerColumn(),
            TextColumn(place.name),
            BarColumn(20),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=progress.console,
            transient=True,
            disable=not progress.console.is_terminal,
            speed_estimate_period=24 * 3600,  # a trial may take an hour
        )
        self.bar = self.bars.add_task("", total=trials, completed=len(self.told))
        self.begun = time.monotonic()

    def __enter__(self) -> "Watch":
        self.bars.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bars.__exit__(kind, error, at)

    def show(self) -> None:
        """Tells of trials that ended since the last call, and where the search stands."""
        done = self.study.get_trials(deepcopy=False, states=DONE)
        fresh = [trial for trial in done if trial.number not in self.told]
        for trial in fresh:
            self.told.add(trial.number)
            self.progress.say(f"trial {trial.number} … {self._said(trial)} ({len(self.told)} of {self.trials})")
        if fresh or not self.bars.tasks[self.bar].description:
            first = best(done, self.recipe)
            said = f"best {first.number}: {words(first, self.recipe)}" if first else "none within the budget yet"
            said += f"; front {len(front(done, self.recipe))}"
            self.bars.update(self.bar, completed=len(done), description=said)

    def _said(self, trial: FrozenTrial) -> str:
        if trial.state == TrialState.PRUNED:
            return str(trial.user_attrs.get(ENDED, "left out"))
        level = self.recipe.search.levels[trial.user_attrs[REACHED]]
        return f"{words(trial, self.recipe)}, level {level:g}" + (
            f"; {trial.user_attrs[ENDED]}" if ENDED in trial.user_attrs else ""
        )
