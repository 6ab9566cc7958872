"""kill -9 of flow, stage, worker, MLflow, Prefect and PostgreSQL, again and again: the result is that of a calm run."""

import contextlib
import fcntl
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.stack import Stack
from tasks.core.files import tree_hash
from tests.flows.conftest import hashes, is_clean
from tests.flows.retraining.conftest import rows, write_rows
from tests.flows.servers import (
    command,
    deploy,
    flow_processes,
    flow_runs,
    make_small,
    serving,
    stage_processes,
    start,
    wait_until,
)

pytestmark = [pytest.mark.long, pytest.mark.timeout(3000)]
KILLS = (4, 20)
VICTIMS = ("flow", "stage", "worker", "mlflow", "prefect", "postgresql")
GPU = "storm"
MEASURED = ("data/times", "data/report")
"""What holds times."""
MODEL = "models/quantized/pruned/dynamic"


def strike(stack: Stack, root: Path, victim: str) -> bool:
    """Kills it and starts it again, if it is a service; whether it was there."""
    if victim in ("flow", "stage"):
        found = flow_processes(root) if victim == "flow" else stage_processes(root)
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return bool(found)
    service: Any = stack.workers["gpu"] if victim == "worker" else getattr(stack, victim)
    service.kill()
    time.sleep(1)
    for one in stack.services:  # a server may have ended with its database
        one.start()
    return True


def open_runs(deployment: Any) -> list[Any]:
    return [run for run in flow_runs(deployment) if not run.state or not run.state.is_final()]


@pytest.mark.parametrize("kills", KILLS)
def test_after_a_storm_all_is_as_after_a_calm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: int) -> None:
    root = make_small(tmp_path / "storm")
    write_rows(root / "rows.csv", rows(0, 300))
    calm = tmp_path / "calm"
    shutil.copytree(root, calm)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", GPU)
    choose = random.Random(6)  # noqa: S311
    struck: list[str] = []
    with serving(root, monkeypatch) as stack:
        parameters = {"recipe": str(root / "recipe.yaml"), "root": str(root)}
        variables = {"env": {"CUDA_VISIBLE_DEVICES": GPU}}
        deployment = deploy(root, "flows/compress.py:compress", parameters, "gpu", **variables)
        deploy(root, "flows/reap.py:reap", {"root": str(root)}, "cpu", interval=30)
        while len(struck) < kills:
            if not open_runs(deployment):
                start(deployment)
            time.sleep(choose.uniform(1, 8))
            victim = choose.choice(VICTIMS)
            if strike(stack, root, victim):
                struck.append(victim)
        for _ in range(5):
            wait_until(lambda: not open_runs(deployment), 900)
            if flow_runs(deployment)[-1].state_name == "Completed":
                break
            start(deployment)
        print("struck", struck, [(run.name, run.state_name) for run in flow_runs(deployment)])
        assert flow_runs(deployment)[-1].state_name == "Completed"
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        done = command(calm, "run", "recipe.yaml")
        assert done.returncode in (0, 1), done.stderr  # 1: the budget is not met, which is no matter here
        for out, digest in hashes(root).items():
            if not out.startswith(MEASURED):
                assert digest == hashes(calm)[out], out
        assert tree_hash(root / MODEL) == tree_hash(calm / MODEL)
        assert is_clean(root)
        assert kills < 20 or set(struck) == set(VICTIMS)
        nothing_is_open(root)
        nobody_holds_the_gpu()
        consistent(root)


def nothing_is_open(root: Path) -> None:
    from mlflow import MlflowClient
    from prefect.client.orchestration import get_client

    from flows.reaping.records import everywhere

    wait_until(lambda: not flow_processes(root), 120)
    with get_client(sync_client=True) as client:
        tasks = [task for task in client.read_task_runs() if not task.state or not task.state.is_final()]
    runs = [run for run in flow_runs() if run.state and run.state.is_running()]
    assert [(run.name, run.state_name) for run in (*runs, *tasks)] == []
    assert everywhere(MlflowClient(), "status = 'RUNNING'") == []


def nobody_holds_the_gpu() -> None:
    """The lock was taken: its file is there."""
    file = Path(tempfile.gettempdir()) / f"secateur-gpu-{GPU}.lock"
    with file.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    file.unlink()


def consistent(root: Path) -> None:
    """Each registered model has one version of each content, the present one is current, and all its records agree."""
    from mlflow import MlflowClient

    client, now = MlflowClient(), hashes(root)
    names = [model.name for model in client.search_registered_models()]
    assert sorted(names) == ["tiny-dense", "tiny-pruned", "tiny-quantized-pruned"]
    for name in names:
        versions = client.search_model_versions(f"name = '{name}'")
        content = [version.tags["out_md5"] for version in versions]
        assert len(content) == len(set(content))
        current = client.get_model_version_by_alias(name, "current")
        assert set(current.tags["out_md5"].split()) <= set(now.values())
        verified = command(root, "verify", f"models:/{name}@current")
        assert verified.returncode == 0, verified.stdout + verified.stderr
