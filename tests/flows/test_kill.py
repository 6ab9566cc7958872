"""kill -9 of everything at any moment: the next run ends with the same bytes, and no run or process is left over."""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.flows.conftest import drive, hashes, is_clean, pipeline
from tests.flows.test_compress import CHAIN
from tests.flows.test_tracking import records, runs

KILLS = 6


def running_in_prefect(root: Path) -> list[Any]:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags

    from flows.reaping.flow_runs import tag

    mine = FlowRunFilter(tags=FlowRunFilterTags(all_=[tag(root)]))
    with get_client(sync_client=True) as client:
        found = [*client.read_flow_runs(flow_run_filter=mine), *client.read_task_runs(flow_run_filter=mine)]
    return [run.name for run in found if not run.state or not run.state.is_final()]


def running_in_mlflow(root: Path) -> list[Any]:
    return [run.info.run_name for run in runs(root) if run.info.status == "RUNNING"]


def kill_tree(process: "subprocess.Popen[str]") -> None:
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.communicate()


def test_killed_again_and_again_it_ends_with_the_same_bytes(finished: Path, fresh: Path) -> None:
    (fresh / "orders" / "sleep").write_text("0.15")
    moments = random.Random(4)  # noqa: S311
    killed = 0
    for attempt in range(KILLS * 3):
        process = drive(fresh, "run")
        try:
            process.wait(timeout=moments.uniform(1.5, 6.0))
        except subprocess.TimeoutExpired:
            kill_tree(process)
            killed += 1
        else:
            _, error = process.communicate()
            assert process.returncode == 0, error
        if killed == KILLS or (attempt > KILLS and process.returncode == 0):
            break
    (fresh / "orders" / "sleep").unlink()
    pipeline(fresh)
    assert is_clean(fresh)
    assert hashes(fresh) == hashes(finished)
    assert running_in_prefect(fresh) == []
    assert running_in_mlflow(fresh) == []
    assert records(fresh) == Counter(CHAIN)
    assert not list(fresh.rglob("*.partial"))


def test_nothing_survives_the_flow(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the flow is killed: its Prefect server, fork server, stage and what the stage started must go."""
    monkeypatch.delenv("PREFECT_API_URL")
    monkeypatch.delenv("PREFECT_HOME")
    (workspace / "orders" / "train").write_text("hang")
    process = drive(workspace, "run", "--force", "train")
    end = time.monotonic() + 240
    while not (workspace / "orders" / "hanging").is_file():
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 3
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("damage", ["", "schema: '2.0'\nstages:\n  prepare:\n    cmd: sec"])
def test_a_lock_file_cut_off_is_replaced(workspace: Path, damage: str) -> None:
    assert not pipeline(workspace)
    before = hashes(workspace)
    (workspace / "dvc.lock").write_text(damage)
    assert not pipeline(workspace)
    assert hashes(workspace) == before


@pytest.mark.parametrize("record", ["", '{"write": {"/x": {"pid": 999999999, "cmd": "dvc repro"}}}'])
def test_a_record_of_readers_and_writers_left_by_a_kill_goes(workspace: Path, record: str) -> None:
    (workspace / ".dvc" / "tmp" / "rwlock").write_text(record)
    assert not pipeline(workspace)
    assert is_clean(workspace)


def test_a_replacement_cut_off_between_its_two_renames_is_undone(workspace: Path) -> None:
    dense = workspace / "models" / "dense"
    dense.rename(dense.with_name(".dense.old"))
    (workspace / "models" / ".dense.partial").mkdir()
    assert not pipeline(workspace)
    assert is_clean(workspace)
    assert sorted(path.name for path in (workspace / "models").glob(".*")) == []
