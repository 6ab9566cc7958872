"""Ends the Prefect runs of this workspace that a kill left running. The caller holds the workspace's lock."""

from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.states import Crashed

OPEN = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
PAGE = 200


def reap(tag: str, own: UUID | None) -> int:
    """Marks as crashed what was left, and says how many flow runs that were.

    Args:
        tag: The tag of this workspace's flow runs.
        own: The flow run that asks; it stays.
    """
    tagged = FlowRunFilter(tags=FlowRunFilterTags(all_=[tag]))
    state: State[None] = Crashed(message="The process was killed; found when the next run began.")
    with get_client(sync_client=True) as client:
        ended = 0
        while True:
            left = [
                run
                for run in client.read_flow_runs(
                    flow_run_filter=tagged.model_copy(
                        update={"state": FlowRunFilterState(type=FlowRunFilterStateType(any_=OPEN))}
                    ),
                    limit=PAGE,
                )
                if run.id != own
            ]
            for run in left:
                client.set_flow_run_state(run.id, state, force=True)
            ended += len(left)
            if not left:
                break
        others = FlowRunFilter(id=FlowRunFilterId(not_any_=[own] if own else []), tags=tagged.tags)
        while tasks := client.read_task_runs(
            flow_run_filter=others,
            task_run_filter=TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=OPEN))),
            limit=PAGE,
        ):
            for task in tasks:
                client.set_task_run_state(task.id, state, force=True)
    return ended
