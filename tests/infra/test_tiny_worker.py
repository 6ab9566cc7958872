"""The real stages on a tiny model, run by a real worker through the real servers."""

from pathlib import Path

import boto3
import pytest
import yaml
from mlflow import MlflowClient

from infra import deploy
from infra.stack import Stack
from infra.worker import Worker
from tests.flows.conftest import REPOSITORY, hashes, is_clean
from tests.flows.tiny import make_tiny


@pytest.mark.long
def test_a_worker_compresses_a_tiny_model(client: Stack, tmp_path: Path) -> None:
    from prefect.deployments import run_deployment

    root = make_tiny(tmp_path / "clone")
    found = yaml.safe_load((REPOSITORY / deploy.FILE).read_text())
    found["deployments"] = [one for one in found["deployments"] if one["name"] == "compress-cpu"]
    (root / deploy.FILE).parent.mkdir(exist_ok=True)
    (root / deploy.FILE).write_text(yaml.safe_dump(found))
    deploy.pools(client.home, client.environment(), {"cpu": 1})
    deploy.deployments(client.home, client.environment(), root)
    worker = Worker(client.home, "cpu", root, client.environment())
    worker.start()
    try:
        run = run_deployment(
            "compress/compress-cpu", parameters={"recipe": "recipe.yaml"}, timeout=500, poll_interval=2
        )
    finally:
        worker.clear()
    assert run.state is not None
    assert run.state.is_completed(), run.state
    assert is_clean(root)
    api = MlflowClient(client.mlflow.url)
    version = api.get_model_version_by_alias("tiny-pruned", "current")
    assert set(version.tags["out_md5"].split()) <= set(hashes(root).values())
    objects = boto3.client("s3", endpoint_url=client.s3.url).list_objects_v2(Bucket="mlflow")["Contents"]
    assert any(one["Key"].endswith("model.safetensors") and one["Size"] > 1000 for one in objects)
    files = api.download_artifacts(
        api.search_runs([version_experiment(api)], "tags.stage = 'train'")[0].info.run_id, ""
    )
    assert list(Path(files).rglob("training.json"))


def version_experiment(api: MlflowClient) -> str:
    return str(api.get_experiment_by_name("tiny").experiment_id)
