"""Workers of a search: no trial twice, none lost, whoever is killed."""

import math
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier

import optuna
import psutil
import pytest
from optuna.study import Study
from optuna.trial import Trial, TrialState

from flows.search.run import begun
from flows.search.storage import _given_up, issue, opened
from flows.search.worker import work
from tests.flows.conftest import drive
from tests.flows.searching import SETTINGS, STAGES, check_whole, done, empty, go, trials_of

Objective = Callable[[Study, Trial], list[float]]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return empty(tmp_path, monkeypatch)


def test_fewer_trials_are_asked_for_than_before(root: Path) -> None:
    recipe, place = begun(root, None, SETTINGS, None)
    study = opened(place, recipe)
    issue(study, 5)
    issue(study, 2)
    assert Counter(trial.state for trial in study.get_trials()) == {TrialState.WAITING: 2, TrialState.FAIL: 3}
    issue(study, 3)
    assert Counter(trial.state for trial in study.get_trials())[TrialState.WAITING] == 3


def test_a_trial_whose_stage_is_killed_is_taken_up_again(root: Path) -> None:
    (root.parent / "kill").touch()
    go(root, 3)
    assert not (root.parent / "kill").exists()
    check_whole(root, 3, failed=1)


def test_two_workers_share_the_trials(root: Path) -> None:
    go(root, 8, workers=2)
    assert len(done(root)) == sum("ticket" in trial.user_attrs for trial in trials_of(root)) == 8
    assert len({trial.user_attrs["worker"] for trial in done(root)}) == 2
    calls = Counter(line.split()[0] for line in (root.parent / "calls").read_text().splitlines())
    assert calls["train"] == 1


def test_no_two_take_the_same_trial(root: Path) -> None:
    recipe, place = begun(root, None, SETTINGS, None)
    studies = [opened(place, recipe) for _ in range(2)]
    issue(studies[0], 40)
    start = Barrier(2)

    def take(study: optuna.Study) -> list[int]:
        start.wait()
        return list(iter(study._pop_waiting_trial_id, None))

    with ThreadPoolExecutor() as pool:
        taken = [number for numbers in pool.map(take, studies) for number in numbers]
    assert len(taken) == len(set(taken)) == 40


def hanging(root: Path, *words: str) -> tuple[psutil.Process, str]:
    """A search in a process of its own, one of whose workers is in mid-trial."""
    (root.parent / "hang").touch()
    process = drive(root, "search", *words)
    end = time.monotonic() + 400
    while not (root.parent / "hanging").exists():
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    stuck = [t for t in trials_of(root) if t.state == TrialState.RUNNING and t.user_attrs.get("reached") == 0]
    return psutil.Process(process.pid), stuck[0].user_attrs["worker"].rpartition(":")[2]


def given() -> list[str]:
    return [part for setting in SETTINGS for part in ("--set", setting)]


def test_a_worker_that_is_killed_costs_nothing(root: Path) -> None:
    process, worker = hanging(root, "--trials", "6", "--workers", "2", *given())
    os.kill(int(worker), signal.SIGKILL)
    assert process.wait(400) in (0, None)
    check_whole(root, 6, failed=1)


def test_a_search_that_is_killed_goes_on(root: Path) -> None:
    process, worker = hanging(root, "--trials", "5", "--workers", "2", *given())
    process.kill()
    psutil.wait_procs([psutil.Process(int(worker))] if psutil.pid_exists(int(worker)) else [], 10)
    assert any(trial.state == TrialState.RUNNING for trial in trials_of(root))
    go(root, 5)
    check_whole(root, 5, failed=1)


@pytest.fixture
def begin(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Objective], Study]:
    """What a worker does with two trials of the given objective."""

    def works(objective: Objective) -> Study:
        recipe, place = begun(root, None, SETTINGS, None)
        study = opened(place, recipe)
        issue(study, 2)
        monkeypatch.setattr("flows.search.trial.trying", lambda *_: partial(objective, opened(place, recipe)))
        work(place, recipe, "0", "here:1", math.inf, STAGES, [])
        return study

    return works


def test_a_mistake_in_the_code_ends_a_worker(begin: Callable[[Objective], Study]) -> None:
    def objective(_: Study, trial: Trial) -> list[float]:
        raise ValueError("not of the right shape")

    with pytest.raises(ValueError, match="not of the right shape"):
        begin(objective)


@pytest.mark.parametrize("noticed", [True, False])
def test_a_worker_goes_on_after_a_trial_that_another_has_ended(
    begin: Callable[[Objective], Study], noticed: bool
) -> None:
    def objective(others: Study, trial: Trial) -> list[float]:
        if trial.number == 0:
            others.tell(0, state=TrialState.FAIL)
            if noticed:
                trial.set_user_attr("reached", 0)
        return [0.5, 0.5]

    assert [trial.state for trial in begin(objective).trials] == [TrialState.FAIL, TrialState.COMPLETE]


def test_a_trial_that_ended_meanwhile_is_not_put_back(root: Path) -> None:
    recipe, place = begun(root, None, SETTINGS, None)
    study = opened(place, recipe)
    issue(study, 1)
    number = study._storage.get_trial_number_from_id(study._pop_waiting_trial_id())
    seen = study.trials[number]
    opened(place, recipe).tell(number, [0.5, 0.5])
    assert not _given_up(study, seen, 3)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE]
