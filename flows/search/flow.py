"""The deployments `search` and `search-worker`: `secateur search`, and one more worker for it, as flows of Prefect."""

import math
from collections.abc import Sequence
from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run

from flows.progress import Progress
from flows.search.run import begun
from flows.search.run import search as work
from flows.search.worker import STAGES
from flows.workspace import find, identity
from tasks.recipe.load import resolve


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
    from flows.reaping.flow_runs import begin_search

    given, workspace = Path(recipe) if recipe else None, find(Path(root))
    begin_search(workspace, name or resolve(given, overrides).name)
    work(workspace, given, overrides, name, trials, workers, timeout, Progress(), stages)


@flow(name="search-worker", persist_result=False, validate_parameters=False)
def search_worker(
    recipe: str | None = None,
    overrides: Sequence[str] = (),
    name: str | None = None,
    root: str = ".",
    stages: str = STAGES,
) -> None:
    """Takes trials of a search that is at work elsewhere, from the same storage, until none waits.

    Args:
        recipe: As the search was given it; its storage is one that both reach.
        overrides: `key=value` settings on top.
        name: Of the search; None: the recipe's.
        root: The workspace, or a directory in it: another clone, or the same.
        stages: The module whose `run` does a stage's work.
    """
    from flows.search import worker
    from flows.search.storage import answering

    workspace = find(Path(root))
    one, place = begun(workspace, Path(recipe) if recipe else None, overrides, name)
    run = str(flow_run.get_id())
    with answering(one):  # a heartbeat tells of its end: no search of this workspace answers for it
        worker.work(place, one, run, f"{identity(workspace)}/{run}", math.inf, stages, ["secateur", "search"])
