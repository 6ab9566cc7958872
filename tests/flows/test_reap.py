"""What killed runs leave open in Prefect, MLflow and Optuna is closed; what may be alive is not."""

import os
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from mlflow import MlflowClient

import flows.reap
from flows.database import connect
from flows.reap import closed, reap
from flows.reaping import flow_runs
from flows.reaping.flow_runs import tag
from flows.reaping.records import everywhere
from flows.retraining.alone import alone
from flows.workspace import identity
from tests.flows.test_kill import running_in_mlflow
from tests.flows.test_tracking import runs

NOBODY = 999_999_999


def begun(name: str, *, tags: list[str], root: Path | None = None, pid: int | None = None) -> UUID:
    """A flow run that is RUNNING from now on, by that process, if it is known."""
    from prefect.client.orchestration import get_client
    from prefect.flows import Flow
    from prefect.states import Running

    def nothing(root: str = ".") -> None:
        pass

    state: Any = Running()
    with get_client(sync_client=True) as client:
        flow = Flow(fn=nothing, name=name)
        run = client.create_flow_run(flow, parameters={"root": str(root)} if root else {}, tags=tags, state=state)
        if pid:
            client.update_flow_run(run.id, infrastructure_pid=str(pid))
        return run.id


def state_of(run: UUID) -> str:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return str(client.read_flow_run(run).state_name)


def test_old_runs_of_this_workspace_are_closed_and_no_others(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (flows.reap, flow_runs):
        monkeypatch.setattr(module, "GRACE", timedelta(seconds=1))
    own = [tag(workspace)]
    dead = begun("compress", tags=own)
    alive = begun("retrain", tags=[], root=workspace, pid=os.getpid())
    untagged = begun("retrain", tags=[], root=workspace, pid=NOBODY)
    other = begun("retrain", tags=["workspace:another"], root=workspace)
    elsewhere = begun("compress", tags=[], root=tmp_path)
    time.sleep(1.1)
    monkeypatch.setattr(flows.reap, "GRACE", timedelta(minutes=2))
    young = begun("compress", tags=own)
    killed = begun("compress", tags=own, pid=NOBODY)
    client = MlflowClient(f"sqlite:///{workspace / '.secateur' / 'mlflow.db'}")
    for run in runs(workspace)[:2]:
        client.set_tag(run.info.run_id, "workspace", identity(workspace))  # it is a copy, so it has another
        client.update_run(run.info.run_id, status="RUNNING")
    assert closed(workspace, set()) == "ended 2 flow runs, 2 records and 0 trials whose process was gone"
    assert [state_of(run) for run in (untagged, killed)] == ["Crashed", "Crashed"]
    monkeypatch.setattr(flows.reap, "GRACE", timedelta(seconds=1))
    assert closed(workspace, {young}) == "ended 1 flow runs, 0 records and 0 trials whose process was gone"
    assert state_of(dead) == "Crashed"
    assert {state_of(run) for run in (young, alive, other, elsewhere)} == {"Running"}
    assert running_in_mlflow(workspace) == []


def test_a_run_that_begins_leaves_a_retraining_that_is_at_work(workspace: Path) -> None:
    mine = begun("retrain", tags=[tag(workspace)])
    with alone(workspace):
        assert flow_runs.reap(workspace, set()) == 0
        assert state_of(mine) == "Running"
        assert flow_runs.reap(workspace, {mine}, retraining=True) == 0
    assert flow_runs.reap(workspace, set()) == 1
    assert state_of(mine) == "Crashed"


def test_the_flow_says_what_it_did(workspace: Path) -> None:
    state = reap(str(workspace), return_state=True)
    assert state.message == "ended 0 flow runs, 0 records and 0 trials whose process was gone"
    with alone(workspace):
        state = reap(str(workspace), return_state=True)
    assert (state.name, str(state.message)[:25]) == ("Skipped", "a retraining is at work (")


@pytest.mark.parametrize("alive", [True, False])
def test_trials_of_a_killed_search_are_put_back(workspace: Path, alive: bool) -> None:
    import optuna

    from flows.reaping import trials
    from flows.search.place import Place, held
    from flows.search.storage import WORKER, issue, opened
    from tasks.recipe.load import dump, resolve

    recipe = resolve(None, ["search.space={score.criterion: {choices: [taylor, fisher]}}"])
    place = Place(workspace, "mine")
    place.recipe.write_text(dump(recipe))
    study = opened(place, recipe)
    issue(study, 1)
    trial = study.ask()
    trial.set_user_attr(WORKER, f"{identity(workspace)}:999999999")
    client = connect(workspace)
    key = f"{identity(workspace)}:mine"
    run = client.create_run(client.create_experiment("mine"), tags={"search": key}).info.run_id
    mine = begun("search", tags=[f"secateur-search:{identity(workspace)}:mine"])
    ways = (client, partial(everywhere, client), partial(flow_runs.reap_search, workspace))
    if alive:
        with held(place):
            assert trials.reap(workspace, *ways) == 0
        assert state_of(mine) == "Running"
        assert client.get_run(run).info.status == "RUNNING"
        return
    (place.home.parent / "a-recipe-of-another-day").mkdir()
    (place.home.parent / "a-recipe-of-another-day" / "recipe.yaml").write_text("prune: {what: 1}\n")
    assert trials.reap(workspace, *ways) == 1
    assert state_of(mine) == "Crashed"
    assert client.get_run(run).info.status == "KILLED"
    states = [one.state for one in study.get_trials()]
    assert states == [optuna.trial.TrialState.FAIL, optuna.trial.TrialState.WAITING]
