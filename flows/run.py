"""`secateur run`: makes every stage up to date; starts Prefect only if one of them must run."""

from contextlib import ExitStack
from pathlib import Path

from flows.progress import Progress
from flows.quiet import quiet
from flows.request import Request


def run(request: Request, progress: Progress) -> bool:
    """Runs what must run; says whether anything had to.

    Raises:
        UserError: A mistake in the recipe, the workspace or the data.
        EnvironmentFault: A stage, a service or the machine failed.
    """
    quiet(request.root)
    from flows.session import opened

    with opened(request, progress) as session:
        if not session.first_to_run():
            session.record()
            session.tracker.close("FINISHED")
            return False
        recipe = session.dag.recipe
    from flows import server
    from flows.process import AHEAD, Workers

    with ExitStack() as stack:
        workers = Workers(request.root, recipe, request.command, request.stages, request.preload)
        stack.callback(AHEAD.reset, AHEAD.set(stack.enter_context(workers)))
        with progress.stage("start Prefect") as tick:
            stack.enter_context(server.api(request.root, lambda _: tick(None), lambda: _meanwhile(request.root)))
        stack.callback(server.delivered)
        _flow(request)
    return True


def _meanwhile(root: Path) -> None:
    """What the flow needs, and what takes seconds as Prefect's start does."""
    from flows import compress, database, tracking  # noqa: F401

    database.make(root)


def _flow(request: Request) -> None:
    from prefect import tags

    from flows.compress import compress
    from flows.reaping.flow_runs import tag

    with tags(tag(request.root)):
        compress(
            recipe=str(request.recipe) if request.recipe else None,
            overrides=list(request.overrides),
            force=list(request.force),
            root=str(request.root),
            stages=request.stages,
        )
