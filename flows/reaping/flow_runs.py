"""The Prefect runs of a workspace: marked as its own while they run, and as crashed when a kill left them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.runtime import flow_run
from prefect.states import Crashed

from flows.workspace import RETRAINING, identity, is_held, private

OPEN = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
FLOWS = ["compress", "retrain", "search"]
PREFIX = "workspace:"
GRACE = timedelta(seconds=120)
"""A run that is younger may be on its way to the workspace's lock."""
PAGE = 200
WORDS = "The process was killed; found when the next run began."


def tag(root: Path) -> str:
    """The tag of a workspace's flow runs."""
    return f"{PREFIX}{identity(root)}"


def begin_search(root: Path, name: str) -> None:
    """Marks this flow run as the search of that name of the workspace; it holds the search, not the workspace."""
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(UUID(str(flow_run.get_id())))
        client.update_flow_run(run.id, tags={*run.tags, _of_search(root, name)})


def reap_search(root: Path, name: str) -> None:
    """Marks as crashed what was left of a search. The caller holds the search."""
    with get_client(sync_client=True) as client:
        for run in _open(client, _of_search(root, name)):
            client.set_flow_run_state(run.id, Crashed(message=WORDS), force=True)


def begin(root: Path, retraining: bool = False) -> int:
    """Ends what a kill left running, and marks this flow run as the workspace's own. The caller holds the workspace.

    Args:
        root: The workspace.
        retraining: Whether the caller holds the lock of retraining too.

    Returns:
        How many flow runs were ended.
    """
    own = UUID(str(flow_run.get_id()))
    above = (flow_run.get_parent_flow_run_id(), flow_run.get_root_flow_run_id())
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(own)
        client.update_flow_run(own, tags={*run.tags, tag(root)})
    return reap(root, {own, *(UUID(str(one)) for one in above if one)}, retraining)


def reap(root: Path, own: set[UUID], retraining: bool = False, since: timedelta = timedelta(0)) -> int:
    """Marks as crashed what was left. The caller holds the workspace.

    Args:
        root: The workspace.
        own: Flow runs that stay: the one that asks, and those it is part of.
        retraining: Whether the caller holds the lock of retraining too; otherwise one may be at work.
        since: How long a run must have been in its state, unless it is known that its process is gone.

    Returns:
        How many flow runs were ended.
    """
    state: State[None] = Crashed(message=WORDS)
    with get_client(sync_client=True) as client:
        stay = set(own)
        if not retraining and is_held(private(root, RETRAINING)):
            stay |= {run.id for run in _open(client, tag(root), ["retrain"])}
        left = [run for run in _open(client, tag(root)) if run.id not in stay and (_gone(run) or _older(run, since))]
        left += [run for run in _open(client, None, FLOWS) if run.id not in stay and _lost(run, root)]
        for run in left:
            client.set_flow_run_state(run.id, state, force=True)
        _tasks(client, tag(root), stay | {run.id for run in _open(client, tag(root))}, state)
    return len(left)


def _of_search(root: Path, name: str) -> str:
    return f"secateur-search:{identity(root)}:{name}"


def _open(client: SyncPrefectClient, tag: str | None, flows: list[str] | None = None) -> list[FlowRun]:
    """Flow runs that have not ended."""
    where = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=OPEN)),
        tags=FlowRunFilterTags(all_=[tag]) if tag else None,
    )
    named = FlowFilter(name=FlowFilterName(any_=flows)) if flows else None
    found: list[FlowRun] = []
    while page := client.read_flow_runs(flow_filter=named, flow_run_filter=where, limit=PAGE, offset=len(found)):
        found += page
    return found


def _tasks(client: SyncPrefectClient, tag: str, stay: set[UUID], state: State[None]) -> None:
    """Ends the open tasks of all flow runs but those that stay."""
    others = FlowRunFilter(
        id=FlowRunFilterId(not_any_=list(stay)) if stay else None, tags=FlowRunFilterTags(all_=[tag])
    )
    open_ = TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=OPEN)))
    while tasks := client.read_task_runs(flow_run_filter=others, task_run_filter=open_, limit=PAGE):
        for one in tasks:
            client.set_task_run_state(one.id, state, force=True)


def _older(run: FlowRun, since: timedelta) -> bool:
    return run.state is None or datetime.now(UTC) - run.state.timestamp >= since


def _gone(run: FlowRun) -> bool:
    """Whether a worker of this machine started a process for it that is gone; a workspace's runs are on one machine."""
    return (run.infrastructure_pid or "").isdigit() and not psutil.pid_exists(int(run.infrastructure_pid or 0))


def _lost(run: FlowRun, root: Path) -> bool:
    """Whether it was killed before it got the workspace's tag: it names the workspace, and its process is gone."""
    given = run.parameters.get("root")
    if any(one.startswith(PREFIX) for one in run.tags) or not given or not Path(given).is_absolute():
        return False
    return Path(given).resolve() == root.resolve() and _older(run, GRACE) and (not run.infrastructure_pid or _gone(run))
