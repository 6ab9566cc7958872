"""`secateur retrain` and the deployment of that name: new data to a model that takes the champion's place, or does not.

secateur retrain mine
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Cancelled

from flows.again import as_task
from flows.process import STAGES
from flows.progress import Progress
from flows.quiet import quiet
from flows.request import Request
from flows.retraining.alone import Refused, alone
from flows.workspace import PIPELINE, Busy, find, locked
from tasks.core.errors import EnvironmentFault, UserError
from tasks.recipe.load import read, resolve
from tasks.recipe.operating import Limits

T = TypeVar("T")


@flow(name="retrain", persist_result=False, validate_parameters=False)
def retrain(
    recipe: str | None = None, overrides: Sequence[str] = (), root: str = ".", stages: str = STAGES
) -> State[Any]:
    """Trains with what data there are now, and has the gate decide.

    Args:
        recipe: A recipe file; None is the quickstart.
        overrides: `key=value` settings on top.
        root: The workspace, or a directory in it.
        stages: The module whose `run` does a stage's work.
    """
    workspace = find(Path(root))
    request = Request(workspace, Path(recipe) if recipe else None, overrides, (), stages)
    quiet(workspace)
    from flows.retraining.judge import Verdict
    from flows.retraining.schedule import caught_up
    from flows.retraining.tell import told

    progress = Progress()
    limits = resolve(request.recipe, request.overrides).limits
    try:
        with alone(workspace):
            _begun(workspace)
            caught_up()
            return told(request, _steps(request, limits, progress), progress)
    except Refused as refused:
        progress.say(str(refused))
        return Cancelled(name="Refused", message=str(refused))
    except (UserError, EnvironmentFault) as error:
        told(request, Verdict("failed", str(error)), progress)
        raise


def _begun(workspace: Path) -> None:
    """Ends what a kill left of this workspace's runs.

    Raises:
        Refused: A pipeline is at work here.
    """
    from flows.reaping.flow_runs import begin

    try:
        with locked(workspace):
            begin(workspace, retraining=True)
    except Busy as busy:
        raise Refused(str(busy)) from None


def _steps(request: Request, limits: Limits, progress: Progress) -> Any:
    """What is done, in order; each step can be done twice, so that a retraining that was killed begins anew."""
    from flows.compress import compress
    from flows.retraining.check import Unfit, checked
    from flows.retraining.judge import Verdict, judged
    from flows.retraining.look import done, look
    from flows.retraining.publish import published

    def step(name: str, work: Callable[[], T]) -> T:
        return as_task(work, name, limits.retries, limits.wait, lambda fault: progress.say(f"{name}: {fault}"))

    root, run = request.root, str(flow_run.get_id())
    seen = step("look", lambda: look(request, progress))
    if seen.unchanged:
        return Verdict("unchanged", "nothing changed")
    try:
        data = step("check data", lambda: checked(root, seen.source, read(root / PIPELINE), run))
    except Unfit as unfit:
        return Verdict("unfit", str(unfit))
    if seen.first:
        compress(str(request.recipe) if request.recipe else None, request.overrides, (), str(root), request.stages)
    verdict = step("gate", lambda: judged(request, seen.pipeline, data, run))
    step("publish", lambda: published(root, limits.disk_gb, progress))
    done(root, seen.pipeline, verdict.outcome)
    return verdict
