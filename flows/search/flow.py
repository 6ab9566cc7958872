"""The deployment `search`: `secateur search` as a flow of Prefect, for a worker to run."""

from collections.abc import Sequence
from pathlib import Path

from prefect import flow

from flows.progress import Progress
from flows.search.run import search as work
from flows.search.worker import STAGES
from flows.workspace import find


@flow(name="search", persist_result=False, validate_parameters=False)
def search(
    recipe: str | None = None,
    overrides: Sequence[str] = (),
    name: str | None = None,
    trials: int = 20,
    workers: int = 1,
    timeout: float | None = None,
    root: str = ".",
    stages: str = STAGES,
) -> None:
    """Does trials until so many are done in all, or the time is up; one that was killed goes on.

    Args:
        recipe: A recipe file with a search section; None is the quickstart.
        overrides: `key=value` settings on top.
        name: Of the search; None: the recipe's.
        trials: How many there are to be, with those that were done before.
        workers: Processes on the worker's machine.
        timeout: Seconds after which no trial is begun; None: no limit.
        root: The workspace, or a directory in it.
        stages: The module whose `run` does a stage's work.
    """
    given = Path(recipe) if recipe else None
    work(find(Path(root)), given, overrides, name, trials, workers, timeout, Progress(), stages)
