"""Flows as deployments on real servers: a tiny workspace, workers that start its flows, what became of them."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest

from infra.stack import Stack, temporary
from tests.flows.conftest import REPOSITORY, commit_all
from tests.flows.tiny import make_clone, make_model
from tests.infra.conftest import leading_to, needed

RECIPE = """
name: tiny
model: {source: model}
data: {source: rows.csv}
budget: {max_drop: 0.2, max_flops: 0.9}
task: {max_length: 16}
train: {epochs: 6, learning_rate: 2.0e-3, batch_size: 16, precision: fp32, checkpoint_steps: 5}
finetune: {epochs: 2, learning_rate: 1.0e-3, batch_size: 16, precision: fp32, checkpoint_steps: 5}
distill: {enabled: false}
prune: {rounds: [0.25], align: 4}
score: {rows: 64, batch_size: 16}
quantize: {models: [pruned], methods: [dynamic]}
evaluate: {latency_rows: 4, throughput_batches: 1, repeats: 1, bootstrap: 200}
promote: {margin: 0.05, earlier_margin: 0.05, max_slowdown: null, max_growth: null}
limits: {wait: 1}
"""
REMOTE = """['remote "store"']
    url = s3://dvc/tiny
"""
"""Where the servers' variables lead DVC to."""


def make_small(root: Path) -> Path:
    """A clone with a tiny model and a recipe of few stages; its data are for the caller to write."""
    make_clone(root)
    make_model(root / "model")
    (root / "recipe.yaml").write_text(RECIPE)
    config = root / ".dvc" / "config"
    config.write_text(config.read_text().replace("[core]\n", "[core]\n    remote = store\n") + REMOTE)
    commit_all(root)
    return root


@contextmanager
def serving(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """All servers, and this process as their client."""
    needed()
    with temporary(root, {"gpu": 1, "cpu": 2}) as stack, leading_to(stack, monkeypatch):
        stack.up(lambda _: None, deployments=False)
        yield stack


def deploy(root: Path, entrypoint: str, parameters: dict[str, Any], pool: str, **options: Any) -> UUID:
    """A deployment whose flow runs in the workspace, by a process of its own; its id."""
    script = f"""
import json, sys
from prefect import Flow
flow = Flow.from_source({str(REPOSITORY)!r}, {entrypoint!r})
print(flow.deploy(name="tiny", work_pool_name={pool!r}, print_next_steps=False, **json.loads(sys.argv[1])))
"""
    environment = {"PYTHONPATH": str(REPOSITORY), **options.pop("env", {})}
    variables = {"working_dir": str(root), "env": environment}
    options = {"parameters": parameters, "job_variables": variables, **options}
    words = [sys.executable, "-c", script, json.dumps(options)]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return UUID(done.stdout.split()[-1])


def command(root: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """`secateur …` in the workspace."""
    call = [sys.executable, "-c", "from flows.cli import main; main()", *words]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(call, cwd=root, env=env, capture_output=True, text=True, check=False)


def flow_runs(deployment: UUID | None = None) -> list[Any]:
    """All flow runs, or those of a deployment, the earliest first."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
    from prefect.client.schemas.sorting import FlowRunSort

    mine = DeploymentFilter(id=DeploymentFilterId(any_=[deployment])) if deployment else None
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(deployment_filter=mine, sort=FlowRunSort.START_TIME_ASC)


def start(deployment: UUID) -> UUID:
    """A flow run of a deployment, now."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.create_flow_run_from_deployment(deployment).id


def wait_until(condition: Callable[[], Any], seconds: float, every: float = 1.0) -> Any:
    """What the condition gives, once it is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it never came to that"
        time.sleep(every)
    return found


def flow_processes(root: Path) -> list[psutil.Process]:
    """The processes of the workspace's flows that workers started, without stages and servers."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            mine = Path(process.cwd()) == root and "PREFECT__FLOW_RUN_ID" in process.environ()
            if mine and "flows.forkserver" not in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def stage_processes(root: Path) -> list[psutil.Process]:
    """The stages at work in the workspace; while none is, the server that starts them."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()) == root and "flows.forkserver" in process.cmdline():
                found.append(process)
    parents = {process.pid for process in found}
    with contextlib.suppress(psutil.Error):
        return [one for one in found if one.ppid() in parents] or found
    return found
