"""What infra/prefect.yaml registers, and a run of it by a real worker, recorded in MLflow and S3."""

import shutil
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
import yaml

from infra import deploy
from infra.stack import Stack
from tests.flows.conftest import REPOSITORY, calls, hashes, is_clean
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
    """The servers with pools, the deployments compress and search, and workers."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    names = ["compress", "search"]
    chosen = {**FILE, "deployments": [one for one in FILE["deployments"] if one["name"] in names]}
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
