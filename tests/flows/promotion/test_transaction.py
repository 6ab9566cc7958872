"""A decision is carried out whole, wherever the process is killed; all places say the same of it."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from flows import git
from flows.promotion import transaction
from flows.promotion.record import decisions
from flows.promotion.transaction import aliases, carry_out, recover, text
from flows.workspace import JOURNAL, private
from tests.flows.test_tracking import runs

NAME = "quickstart"
BEFORE = {"champion": "1", "previous": None, "challenger": "2"}
AFTER = {"champion": "2", "previous": "1", "challenger": None}


def client_of(root: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{root / '.secateur' / 'mlflow.db'}")


def decision() -> dict[str, Any]:
    return {
        "id": "20260101T000000000000-0123abcd",
        "decision": "promotion",
        "because": "every check is met",
        "experiment": NAME,
        "model": {"name": NAME, "version": "2", "path": "models/student"},
        "before": BEFORE,
        "after": AFTER,
        "committed": ["dvc.lock", "params/pipeline.yaml"],
    }


@pytest.fixture(scope="module")
def judged(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a champion and a challenger that is about to be promoted. Not to be changed."""
    root = tmp_path_factory.mktemp("judged") / "workspace"
    shutil.copytree(finished, root)
    client = client_of(root)
    client.create_registered_model(NAME)
    for version in ("1", "2"):
        client.create_model_version(NAME, source=f"{root}/models/student", run_id=None)
        client.set_registered_model_alias(NAME, "champion" if version == "1" else "challenger", version)
    return root


@pytest.fixture
def root(judged: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "workspace"
    shutil.copytree(judged, copy)
    return copy


def kill(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killing_after(owner: Any, name: str, times: int = 1) -> Callable[[], None]:
    """Makes the process die when a function has returned, the `times`-th time."""

    def arm() -> None:
        done, left = getattr(owner, name), [times]

        def call(*words: Any, **named: Any) -> Any:
            value = done(*words, **named)
            left[0] -= 1
            if not left[0]:
                kill()
            return value

        setattr(owner, name, call)

    return arm


STEPS: dict[str, Callable[[], None]] = {
    "the record is ahead": killing_after(transaction, "_ahead"),
    "the first alias": killing_after(MlflowClient, "set_registered_model_alias"),
    "the second alias": killing_after(MlflowClient, "set_registered_model_alias", 2),
    "the third alias": killing_after(MlflowClient, "delete_registered_model_alias"),
    "a run that is empty": killing_after(MlflowClient, "create_run"),
    "a run with its file": killing_after(MlflowClient, "log_dict"),
    "the run is ended": killing_after(MlflowClient, "set_terminated"),
    "the version's tag": killing_after(MlflowClient, "set_model_version_tag"),
    "the file": killing_after(transaction, "write", 2),
    "the commit": killing_after(git, "commit"),
}


def told(root: Path) -> dict[str, Any]:
    """What all places say."""
    log = subprocess.run(["git", "log", "--format=%s", "--name-only"], cwd=root, capture_output=True, text=True)
    return {
        "aliases": aliases(client_of(root), NAME),
        "files": decisions(root),
        "runs": [run.info.status for run in runs(root) if "decision" in run.data.tags],
        "commits": [line for line in log.stdout.splitlines() if line.startswith("Promotion")],
        "committed": sorted({"dvc.lock", "params/pipeline.yaml"} & set(log.stdout.splitlines())),
        "journal": private(root, JOURNAL).exists(),
    }


@pytest.mark.parametrize("step", STEPS)
def test_killed_after_each_step_it_is_finished_by_the_next_command(root: Path, step: str) -> None:
    def work() -> None:
        STEPS[step]()
        carry_out(root, decision())

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL
    assert private(root, JOURNAL).is_file()
    finished = recover(root)
    assert finished == decision()
    found = told(root)
    assert found == {
        "aliases": AFTER,
        "files": [decision()],
        "runs": ["FINISHED"],
        "commits": ["Promotion of models/student (20260101T000000000000-0123abcd)"],
        "committed": ["dvc.lock", "params/pipeline.yaml"],
        "journal": False,
    }
    (run,) = [run for run in runs(root) if "decision" in run.data.tags]
    copy = client_of(root).download_artifacts(run.info.run_id, "record.json")
    assert json.loads(Path(copy).read_text()) == json.loads(text(decision()))
    assert recover(root) is None
    assert told(root) == found


def test_killed_before_the_record_nothing_is_decided(root: Path) -> None:
    def work() -> None:
        transaction._ahead = kill  # type: ignore[assignment]
        carry_out(root, decision())

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL
    assert recover(root) is None
    found = told(root)
    assert (found["aliases"], found["files"], found["runs"]) == (BEFORE, [], [])


def test_what_others_did_meanwhile_is_not_undone(root: Path) -> None:
    client = client_of(root)
    client.create_model_version(NAME, source=f"{root}/models/dense", run_id=None)
    client.set_registered_model_alias(NAME, "champion", "3")
    kept = carry_out(root, decision())
    assert (kept["decision"], kept["because"]) == ("abandoned", "champion of quickstart became version 3 meanwhile")
    assert told(root)["aliases"] == {**BEFORE, "champion": "3"}
    assert told(root)["files"] == [kept]


def test_a_version_that_is_gone_changes_no_alias(root: Path) -> None:
    client = client_of(root)
    client.create_model_version(NAME, source=f"{root}/models/dense", run_id=None)
    client.delete_model_version(NAME, "3")
    kept = carry_out(root, {**decision(), "after": {**AFTER, "champion": "3"}})
    assert (kept["decision"], kept["because"]) == ("abandoned", "version 3 of quickstart is gone")
    assert told(root)["aliases"] == BEFORE
