"""`secateur retrain`: looks first, and starts Prefect only if there is something to do."""

from contextlib import ExitStack

from flows.progress import Progress
from flows.quiet import quiet
from flows.request import Request
from flows.retraining.alone import alone

WELL = ("unchanged", "promoted", "champion")


def retrain(request: Request, progress: Progress) -> int:
    """Retrains if anything changed; the exit status: 1 if the champion stays though there is a new model or new data.

    Raises:
        UserError: A mistake in the recipe, the workspace or the data.
        EnvironmentFault: Another retraining is at work, or a stage, a service or the machine failed.
    """
    quiet(request.root)
    from flows.retraining.look import look

    with alone(request.root):
        if look(request, progress).unchanged:
            progress.say("nothing changed")
            return 0
    from flows import server

    with ExitStack() as stack:
        with progress.stage("start Prefect") as tick:
            stack.enter_context(server.api(request.root, lambda _: tick(None)))
        stack.callback(server.delivered)
        return _flow(request)


def _flow(request: Request) -> int:
    from prefect import tags

    from flows.reaping.flow_runs import tag
    from flows.retrain import retrain as flow
    from tasks.core.errors import EnvironmentFault

    with tags(tag(request.root)):
        state = flow(
            recipe=str(request.recipe) if request.recipe else None,
            overrides=list(request.overrides),
            root=str(request.root),
            stages=request.stages,
            return_state=True,
        )
    if state.is_cancelled():
        raise EnvironmentFault(str(state.message))
    if state.is_failed() and state.name == "Failed":
        state.result()  # raises what it failed of
    return 0 if str(state.name).lower() in WELL else 1
