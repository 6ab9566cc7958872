"""The pipeline: which stage runs after which. What each reads and writes stands in dvc.yaml."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.context import TagsContext
from prefect.runtime import flow_run, task_run
from prefect.states import Completed

from flows import server
from flows.again import as_task
from flows.process import STAGES
from flows.progress import Progress
from flows.quiet import quiet
from flows.reaping.flow_runs import begin
from flows.request import Request
from flows.workspace import find

if TYPE_CHECKING:
    from flows.session import Session

Run = Callable[..., Any]


def chain(run: Run, tables: Sequence[str], rounds: Sequence[str], quantized: Sequence[str]) -> None:
    """Runs every stage, in order.

    Args:
        run: Runs the stage of a name, or that item of it.
        tables: The models whose units' times are measured.
        rounds: The rounds of pruning.
        quantized: The models that are quantized.
    """
    run("prepare")
    run("train")
    for model in tables:
        run("table", model)
    for item in rounds:
        run("score", item)
        run("prune", item)
        run("finetune", item)
        run("evaluate", item)
    run("distill")
    for model in quantized:
        run("quantize", model)
    run("evaluate", "test")
    run("report")


@flow(name="compress", persist_result=False, validate_parameters=False)
def compress(
    recipe: str | None = None,
    overrides: Sequence[str] = (),
    force: Sequence[str] = (),
    root: str = ".",
    stages: str = STAGES,
) -> None:
    """Compresses a model as the recipe says.

    Args:
        recipe: A recipe file; None is the quickstart.
        overrides: `key=value` settings on top.
        force: Stages to run though nothing changed.
        root: The workspace, or a directory in it.
        stages: The module whose `run` does a stage's work.
    """
    workspace = find(Path(root))
    request = Request(workspace, Path(recipe) if recipe else None, overrides, force, stages)
    quiet(workspace)
    from flows.session import opened, working

    with ExitStack() as stack:
        session = stack.enter_context(opened(request, Progress()))
        begin(workspace)
        stack.enter_context(working(session))
        # The workspace's tag is for the flow's run: a tag of a task is a pool.
        stack.enter_context(TagsContext(current_tags=set()))
        items = [session.dag.items(stage) for stage in ("table", "score", "quantize")]
        chain(lambda *name: _task(session, "@".join(name)), *items)


def _task(session: "Session", name: str) -> None:
    """One stage as a task."""
    stage = session.dag.stage(name)
    settled = session.settled(name)
    # For each tag Prefect asks its server for a slot; nobody else could hold one of a private server's.
    pool = () if settled or os.environ.get("PREFECT_API_URL") in server.OWN else (stage.pool,)
    limits = session.dag.recipe.limits

    def run() -> State[None]:
        by = {"prefect.flow_run": str(flow_run.get_id()), "prefect.task_run": str(task_run.get_id())}
        again = task_run.run_count > 1  # then it may be done, and only its record be missing
        way = session.finish(name, session.settled(name) if again else settled, by)
        return Completed(name=None if way == "run" else way.capitalize(), message=f"{name}: {way}")

    as_task(run, stage.group, limits.of(name).retries or 0, limits.wait, session.progress.say, name, pool)
