"""Runs of a schedule that nobody could start in time: one run stands for all of them."""

from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.runtime import flow_run
from prefect.states import Cancelled


def caught_up() -> int:
    """Cancels the runs of the same deployment that are due and wait; says how many. This one does what they would."""
    own = UUID(str(flow_run.get_id()))
    with get_client(sync_client=True) as client:
        deployment = client.read_flow_run(own).deployment_id
        if deployment is None:
            return 0
        due = client.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
                expected_start_time=FlowRunFilterExpectedStartTime(before_=datetime.now(UTC)),
            ),
        )
        state: State[None] = Cancelled(name="Caught up", message=f"Missed; caught up by the flow run {own}.")
        for run in due:
            client.set_flow_run_state(run.id, state, force=True)
    return len(due)
