"""One retraining at a time; the reaper is waited for, and leaves alone what is at work."""

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from uuid import uuid4

import pytest

from flows.reap import Busy, closed
from flows.retraining.alone import Refused, alone
from flows.workspace import REAPER, RETRAINING, hold, is_held, locked, private
from tasks.core.errors import EnvironmentFault
from tests.flows.conftest import calls, drive, hashes, is_clean, make_workspace, pipeline
from tests.flows.retraining.conftest import CHAIN, retrain, rows, write_rows
from tests.flows.test_failures import wait_for
from tests.flows.test_kill import running_in_mlflow, running_in_prefect


def test_a_second_retraining_is_refused_in_words(reviews: Path) -> None:
    with alone(reviews), pytest.raises(Refused) as caught:
        retrain(reviews)
    assert "a retraining is already running in this workspace (since " in str(caught.value)
    assert str(caught.value).endswith("; this one is refused")
    assert not is_held(private(reviews, RETRAINING))


@pytest.mark.long
def test_of_two_processes_one_runs_and_one_is_refused(reviews: Path) -> None:
    write_rows(reviews / "rows.csv", rows(0, 300) + rows(1, 100))
    (reviews / "orders" / "train").write_text("hang")
    first = drive(reviews, "retrain", "recipe.yaml")
    wait_for((reviews / "orders" / "hanging").is_file, first, 120)
    second = drive(reviews, "retrain", "recipe.yaml")
    _, error = second.communicate(timeout=120)
    assert second.returncode == 1
    assert "secateur: a retraining is already running in this workspace (since " in error
    (reviews / "orders" / "train").unlink()
    os.kill(int((reviews / "orders" / "hanging").read_text()), signal.SIGKILL)  # the stage is run again
    first.communicate(timeout=300)
    assert calls(reviews) == CHAIN


@pytest.mark.long
def test_two_recipes_in_two_clones_are_both_right(fresh: Path, prefect: str, tmp_path: Path) -> None:
    """At once, and each as if it were alone."""
    settings = {"one": "distill.epochs=9", "other": "finetune.epochs=9"}
    clones = {name: make_workspace(tmp_path / name) for name in settings}
    at_work = [drive(clones[name], "run", "--set", setting) for name, setting in settings.items()]
    for process in at_work:
        _, error = process.communicate(timeout=400)
        assert process.returncode == 0, error
    for name, setting in settings.items():
        pipeline(fresh, setting)
        assert hashes(clones[name]) == hashes(fresh)
        assert is_clean(clones[name])
        assert running_in_prefect(clones[name]) == running_in_mlflow(clones[name]) == []
    assert hashes(clones["one"]) != hashes(clones["other"])


def test_a_retraining_beside_a_run_is_refused_in_words(reviews: Path) -> None:
    with locked(reviews), pytest.raises(EnvironmentFault, match="a pipeline is already running in this workspace"):
        retrain(reviews)


def test_the_reaper_is_waited_for(tmp_path: Path) -> None:
    file, begun = tmp_path / "lock", threading.Event()

    def reap() -> None:
        with hold(file, REAPER, RuntimeError):
            begun.set()
            time.sleep(0.5)

    thread = threading.Thread(target=reap)
    thread.start()
    begun.wait()
    with hold(file, "me", RuntimeError):
        assert not thread.is_alive() or file.read_text().startswith("me")
    thread.join()


@pytest.mark.parametrize("busy", [alone, locked])
def test_the_reaper_leaves_a_workspace_at_work_alone(reviews: Path, busy: object) -> None:
    assert callable(busy)
    held: contextlib.AbstractContextManager[None] = busy(reviews)
    with held, pytest.raises(Busy):
        closed(reviews, {uuid4()})
