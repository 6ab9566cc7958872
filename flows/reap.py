"""`secateur reap` and the deployment of that name: closes what killed runs of a workspace left open.

secateur reap
"""

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from uuid import UUID

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.database import address, connect, words
from flows.quiet import quiet
from flows.reaping import records, trials
from flows.reaping.flow_runs import GRACE, reap_search
from flows.reaping.flow_runs import reap as reap_flow_runs
from flows.workspace import REAPER, RETRAINING, Busy, find, hold, identity, locked, private


@flow(name="reap", persist_result=False, validate_parameters=False)
def reap(root: str = ".") -> State[None]:
    """Looks at one workspace; where a pipeline or a retraining is at work, that one will do it.

    Args:
        root: The workspace, or a directory in it.
    """
    workspace = find(Path(root))
    quiet(workspace)
    try:
        return Completed(message=closed(workspace, {UUID(str(flow_run.get_id()))}))
    except Busy as busy:
        return Completed(name="Skipped", message=str(busy))


def closed(root: Path, own: set[UUID]) -> str:
    """Closes what was left open in Prefect, MLflow and Optuna, and says how much that was.

    Raises:
        Busy: Somebody is at work there.
    """
    with ExitStack() as stack:
        stack.enter_context(
            hold(private(root, RETRAINING), REAPER, lambda who: Busy(f"a retraining is at work ({who})"))
        )
        stack.enter_context(locked(root, REAPER))
        flow_runs = reap_flow_runs(root, own, retraining=True, since=GRACE)
        with words(address(root)):
            client = connect(root)
            ask = partial(records.everywhere, client)
            left = records.reap(client, ask, identity(root))
            back = trials.reap(root, client, ask, partial(reap_search, root))
        return f"ended {flow_runs} flow runs, {left} records and {back} trials whose process was gone"
