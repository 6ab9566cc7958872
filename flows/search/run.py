"""`secateur search`: makes the study, has its trials done, records them, and says what came out."""

import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from flows.progress import Progress
from flows.quiet import quiet
from flows.search.place import Place, held
from flows.search.worker import STAGES
from flows.workspace import check, write
from tasks.core.errors import UserError
from tasks.recipe.load import dump, resolve
from tasks.recipe.schema import Recipe

POLL = 1.0  # seconds between two looks at the trials


def search(
    root: Path,
    recipe: Path | None,
    overrides: Sequence[str],
    name: str | None,
    trials: int,
    workers: int,
    timeout: float | None,
    progress: Progress,
    stages: str = STAGES,
) -> None:
    """Does trials until so many are done in all, or the time is up.

    Args:
        root: The workspace.
        recipe: A recipe file; None is the quickstart.
        overrides: `key=value` settings on top.
        name: Of the search; None: the recipe's.
        trials: How many there are to be, with those that were done before.
        workers: Processes on this machine.
        timeout: Seconds after which no trial is begun; None: no limit.
        progress: Where to say how it goes.
        stages: The module whose `run` does a stage's work.

    Raises:
        UserError: A mistake in the recipe, its search section or the workspace.
        EnvironmentFault: The storage, a stage or the machine failed.
    """
    for option, number in (("--trials", trials), ("--workers", workers)):
        if number < 1:
            raise UserError(f"{option} {number}: must be at least 1")
    if timeout is not None and timeout <= 0:
        raise UserError(f"--timeout {timeout:g}: must be above 0 seconds")
    one, place = begun(root, recipe, overrides, name)
    command = ["secateur", "search", *([str(recipe)] if recipe else [])]
    command += [part for override in overrides for part in ("--set", override)]
    command += ["--name", place.name, "--trials", str(trials), "--workers", str(workers)]
    from flows.search.crew import Crew
    from flows.search.records import Records
    from flows.search.results import finish
    from flows.search.space import own
    from flows.search.storage import DONE, answering, issue, opened
    from flows.search.watch import Watch

    deadline = time.time() + timeout if timeout else None
    with ExitStack() as stack:
        stack.enter_context(held(place))
        study = opened(place, one)
        write(place.recipe, dump(one))
        records = stack.enter_context(Records(place, one, study, progress.say))
        crew = stack.enter_context(Crew(place, one, study, workers, deadline, command, stages))
        issue(study, trials, own(one))
        with Watch(progress, place, one, study, trials) as watch, answering(one):
            while crew.look():
                watch.show()
                records.sync()
                time.sleep(POLL)
            watch.show()
            done = len(study.get_trials(deepcopy=False, states=DONE))
        if done < trials and not (deadline and time.time() >= deadline):
            progress.say(f"{trials - done} trials were given up after {one.search.retries} tries each (search.retries)")
        finish(place, one, study, progress)


def begun(root: Path, recipe: Path | None, overrides: Sequence[str], name: str | None) -> tuple[Recipe, Place]:
    """The checked recipe of a search, and where it is.

    Raises:
        UserError: A mistake in either.
    """
    quiet(root)
    one = resolve(recipe, overrides)
    check(root)
    from flows.search import space

    space.check(one)
    import optuna

    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    return one, Place(root, name or one.name)
