"""A server that goes away in mid-run: the run goes on, and in the end the record is complete and there once."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from flows.workspace import identity
from infra.stack import Stack
from tests.flows.conftest import drive, make_workspace
from tests.flows.searching import SETTINGS
from tests.flows.test_compress import CHAIN

pytestmark = pytest.mark.long
AWAY = 60
"""Seconds."""


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def done(root: Path, stage: str) -> bool:
    log = root / "calls" / "log"
    return log.is_file() and stage in log.read_text().split()


def runs(stack: Stack, root: Path) -> list[Any]:
    """Of this workspace alone."""
    client = MlflowClient(stack.mlflow.url)
    experiment = client.get_experiment_by_name("quickstart").experiment_id
    return list(client.search_runs([experiment], f"tags.workspace = '{identity(root)}'", max_results=1000))


def complete(stack: Stack, root: Path) -> None:
    """One finished record per stage with its artifacts in S3, one finished run above them, nothing left waiting."""
    found = runs(stack, root)
    records = [one for one in found if "key" in one.data.tags]
    assert Counter(one.info.run_name for one in records) == Counter(CHAIN)
    assert {one.info.status for one in found} == {"FINISHED"}
    assert all("prefect.task_run" in one.data.tags for one in records)
    client = MlflowClient(stack.mlflow.url)
    for one in records:
        assert client.list_artifacts(one.info.run_id), one.info.run_name
    assert not list((root / ".secateur" / "outbox").iterdir())


@pytest.fixture
def slow(client: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace whose stages take half a second, with a seed of its own, so that it has records of its own."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    root = make_workspace(tmp_path / "workspace")
    (root / "orders" / "sleep").write_text("0.5")
    return root


def test_mlflow_away_in_mid_run(client: Stack, slow: Path) -> None:
    run = drive(slow, "run", "--set", "seed=1")
    until(lambda: done(slow, "train"))
    client.mlflow.kill()
    time.sleep(AWAY)
    assert done(slow, "finetune@r1")
    assert len(list((slow / ".secateur" / "outbox").iterdir())) >= 2
    client.mlflow.start()
    said, errors = run.communicate(timeout=200)
    assert run.returncode == 0, errors
    assert "the run goes on" in said + errors
    complete(client, slow)


def test_s3_away_in_mid_run(client: Stack, slow: Path) -> None:
    run = drive(slow, "run", "--set", "seed=2")
    until(lambda: done(slow, "train"))
    client.s3.kill()
    time.sleep(AWAY)
    assert done(slow, "score@r1")
    client.s3.start()
    _, errors = run.communicate(timeout=300)
    assert run.returncode == 0, errors
    complete(client, slow)


def test_mlflow_away_for_some_trials(client: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("SEARCH_ORDERS", str(tmp_path))
    (tmp_path / "sleep").write_text("0.5")
    root, calls = make_workspace(tmp_path / "workspace"), tmp_path / "calls"

    def drafts() -> int:
        return calls.read_text().count("draft@r1") if calls.is_file() else 0

    words = [word for setting in SETTINGS for word in ("--set", setting)]
    search = drive(root, "search", "--trials", "6", "--workers", "1", *words)
    until(lambda: drafts() >= 2)
    client.mlflow.kill()
    until(lambda: drafts() >= 5)
    client.mlflow.start()
    said, errors = search.communicate(timeout=200)
    assert search.returncode == 0, errors
    assert "the search goes on" in said + errors
    there = MlflowClient(client.mlflow.url)
    experiment = there.get_experiment_by_name("quickstart").experiment_id
    found = there.search_runs([experiment], "tags.search LIKE '%:quickstart'", max_results=1000)
    mine = [one for one in found if one.data.tags["search"].startswith(identity(root))]
    assert Counter(one.info.run_name for one in mine) == Counter(
        ["search quickstart", *(f"trial {number}" for number in range(6))]
    )
    assert {one.info.status for one in mine} == {"FINISHED"}
    assert all("drop" in one.data.metrics for one in mine if one.info.run_name.startswith("trial"))
