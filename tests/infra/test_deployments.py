"""What infra/prefect.yaml registers, and a run of it by a real worker, recorded in MLflow and S3."""

import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import optuna
import pytest
import yaml
from optuna.trial import TrialState

from flows.workspace import identity
from infra import deploy
from infra.stack import Stack
from tests.flows.conftest import REPOSITORY, calls, hashes, is_clean
from tests.flows.searching import SETTINGS
from tests.flows.test_compress import CHAIN

FILE = yaml.safe_load((REPOSITORY / deploy.FILE).read_text())


@pytest.mark.parametrize("one", FILE["deployments"], ids=lambda one: str(one["name"]))
def test_an_entrypoint_is_a_flow_that_takes_these_parameters(one: dict[str, Any]) -> None:
    from prefect import Flow
    from prefect.flows import load_flow_from_entrypoint

    flow = load_flow_from_entrypoint(one["entrypoint"])
    assert isinstance(flow, Flow)
    assert set(one["parameters"]) <= set(flow.parameters.properties)
    assert one["work_pool"]["name"] in ("gpu", "cpu")


def test_schedules_are_valid() -> None:
    from prefect.cli.deploy._models import PrefectYamlModel

    read = PrefectYamlModel.model_validate(FILE)
    retrain = next(one for one in read.deployments if one.name == "retrain")
    assert retrain.schedules
    assert retrain.triggers
    assert {"cron", "interval"} <= {key for one in FILE["deployments"] for s in one.get("schedules", []) for key in s}


@pytest.fixture
def working(client: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """The servers with pools, the deployments compress and search, and workers; another worker of searches on `cpu`."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("SEARCH_ORDERS", str(client.root / "orders"))
    names = ["compress", "search", "search-worker"]
    chosen = {**FILE, "deployments": [dict(one) for one in FILE["deployments"] if one["name"] in names]}
    chosen["deployments"][-1]["work_pool"] = {"name": "cpu"}  # a pool takes one run at a time here
    (client.root / deploy.FILE).parent.mkdir(exist_ok=True)
    (client.root / deploy.FILE).write_text(yaml.safe_dump(chosen))
    client.up(lambda _: None)
    yield client
    for worker in client.workers.values():
        worker.clear()


def ran(deployment: str, **parameters: Any) -> Any:
    """The flow run of a deployment, when it has ended."""
    from prefect.deployments import run_deployment

    return run_deployment(deployment, parameters=parameters, timeout=240, poll_interval=1)


def test_a_worker_runs_compress_and_the_record_is_in_mlflow_and_s3(working: Stack) -> None:
    from mlflow import MlflowClient

    run = ran("compress/compress", stages="tests.flows.fake")
    assert run.state is not None
    assert run.state.is_completed(), run.state
    assert calls(working.root) == CHAIN
    assert is_clean(working.root)
    client = MlflowClient(working.mlflow.url)
    experiment = client.get_experiment_by_name("quickstart")
    assert experiment.artifact_location.startswith("mlflow-artifacts:/")
    records = [one for one in client.search_runs([experiment.experiment_id]) if "key" in one.data.tags]
    assert sorted(one.info.run_name for one in records) == sorted(CHAIN)
    assert {one.info.status for one in records} == {"FINISHED"}
    assert {one.data.tags["prefect.flow_run"] for one in records} == {str(run.id)}
    version = client.get_model_version_by_alias("quickstart-dense", "current")
    assert version.tags["out_md5"].split()[0] == hashes(working.root)["models/dense"]
    keys = [entry["Key"] for entry in s3(working).list_objects_v2(Bucket="mlflow")["Contents"]]
    assert any(key.endswith("model.safetensors") for key in keys)
    assert any(key.endswith("models/dense/training.json") for key in keys)


def until(condition: Callable[[], Any], seconds: float = 240) -> Any:
    """What `condition` gives, once that is something."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.2)
    return found


@pytest.mark.long
def test_a_worker_beside_a_search_takes_trials_of_it_and_may_be_killed(working: Stack) -> None:
    """Two flow runs on two pools, one study in PostgreSQL; each trial is done once, and nothing stays at work."""
    from mlflow import MlflowClient
    from prefect.client.orchestration import get_client
    from prefect.deployments import run_deployment

    orders, storage = working.root / "orders", working.postgresql.url("search")
    orders.mkdir(exist_ok=True)
    (orders / "sleep").write_text("0.5")
    overrides = [*SETTINGS, f"search.storage={storage}"]
    overrides[overrides.index("search.heartbeat=60")] = "search.heartbeat=5"
    common = {"overrides": overrides, "name": "shared", "stages": "tests.flows.search_stages"}
    search = run_deployment("search/search", parameters={**common, "trials": 12, "workers": 1}, timeout=0)

    def trials() -> list[Any]:
        names = optuna.get_all_study_names(storage)
        return optuna.load_study(study_name="shared", storage=storage).trials if "shared" in names else []

    until(lambda: sum(trial.state == TrialState.COMPLETE for trial in trials()) >= 2)
    beside = run_deployment("search-worker/search-worker", parameters=common, timeout=0)

    def theirs() -> list[Any]:
        return [trial for trial in trials() if trial.user_attrs.get("worker", "").endswith(f"/{beside.id}")]

    until(lambda: any(one.state == TrialState.COMPLETE for one in theirs()))
    until(lambda: any(one.state == TrialState.RUNNING for one in theirs()))
    with get_client(sync_client=True) as api:
        os.killpg(os.getpgid(int(str(api.read_flow_run(beside.id).infrastructure_pid))), signal.SIGKILL)
        ended = until(lambda: (state := api.read_flow_run(search.id).state) and state.is_final() and state)
        assert ended.is_completed(), ended
        until(lambda: (state := api.read_flow_run(beside.id).state) and state.is_final())
    states = Counter(trial.state for trial in trials())
    assert states == {TrialState.COMPLETE: 12, TrialState.FAIL: 1}
    done = [trial for trial in trials() if trial.state == TrialState.COMPLETE]
    assert len({str(trial.params) for trial in done}) == 12
    client = MlflowClient(working.mlflow.url)
    experiment = client.get_experiment_by_name("quickstart").experiment_id
    found = client.search_runs([experiment], f"tags.search = '{identity(working.root)}:shared'")
    assert Counter(run.info.status for run in found) == {"FINISHED": 13}


def s3(stack: Stack) -> Any:
    """A client with the keys of the file that the environment names."""
    return boto3.client("s3", endpoint_url=stack.s3.url)


def test_registering_again_keeps_ids(working: Stack) -> None:
    from prefect.client.orchestration import get_client

    def found() -> dict[str, Any]:
        with get_client(sync_client=True) as api:
            return {one.name: one.id for one in api.read_deployments()}

    before = found()
    assert {"compress", "search"} <= set(before)
    deploy.deployments(working.home, working.environment(), working.root)
    assert found() == before
    shutil.rmtree(working.root / ".secateur" / "search", ignore_errors=True)
