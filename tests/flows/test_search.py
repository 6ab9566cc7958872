"""Searches with stages that take no time, on a real SQLite: each trial once, the same again, after any kill."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import optuna
import psutil
import pytest
from optuna.trial import FrozenTrial, TrialState

from flows.progress import Progress
from flows.search.run import begun, search
from flows.search.storage import issue, opened
from tasks.core.errors import EnvironmentFault, UserError
from tests.flows.conftest import drive, make_workspace

STAGES = "tests.flows.search_stages"
SPACE = "{score.criterion: {choices: [taylor, random]}, prune.rounds.0.neuron: {low: 0.1, high: 0.9}}"
SETTINGS = (
    "prune.rounds=[{neuron: 0.5}]",
    "budget={max_drop: 0.1, speedup_b1: null, speedup_b32: null, max_flops: 0.8}",
    f"search.space={SPACE}",
    "search.objectives=[quality, flops]",
    "search.heartbeat=60",
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEARCH_ORDERS", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return make_workspace(tmp_path / "workspace")


def go(root: Path, trials: int, *more: str, workers: int = 1) -> None:
    search(root, None, [*SETTINGS, *more], None, trials, workers, None, Progress(), STAGES)


def trials_of(root: Path) -> list[FrozenTrial]:
    storage = f"sqlite:///{root}/.secateur/search/quickstart/study.db"
    return optuna.load_study(study_name="quickstart", storage=storage).trials


def done(root: Path) -> list[FrozenTrial]:
    return [trial for trial in trials_of(root) if trial.state == TrialState.COMPLETE]


def points(root: Path) -> list[tuple[dict[str, Any], list[float]]]:
    return [(trial.params, trial.values) for trial in done(root)]


def runs(root: Path) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{root}/.secateur/mlflow.db")
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(ids))


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace after a search of 12 trials by one worker."""
    directory = tmp_path_factory.mktemp("searched")
    patch = pytest.MonkeyPatch()
    patch.setenv("SEARCH_ORDERS", str(directory))
    root = make_workspace(directory / "workspace")
    go(root, 12)
    patch.undo()
    return root


def test_so_many_trials_are_done_each_once(searched: Path) -> None:
    assert len(done(searched)) == 12
    assert [trial.state for trial in trials_of(searched)] == [TrialState.COMPLETE] * 12
    assert len({json.dumps(trial.params) for trial in done(searched)}) == 12


def test_what_trials_have_in_common_is_made_once(searched: Path) -> None:
    calls = Counter(line.split()[0] for line in (searched.parent / "calls").read_text().splitlines())
    criteria = {trial.params["score.criterion"] for trial in done(searched)}
    assert calls["prepare"] == calls["train"] == 1
    assert calls["score@r1"] == len(criteria)
    assert calls["moments"] == 1
    assert calls["draft@r1"] == 12
    assert calls["prune@r1"] == sum(trial.user_attrs["reached"] > 0 for trial in done(searched))


def test_only_the_promising_are_trained_and_none_that_cannot_meet_the_budget(searched: Path) -> None:
    trained = {path.parts[-4] for path in searched.glob(".secateur/search/quickstart/trials/*/level1/models/rounds")}
    reached = {f"{trial.number:04d}": trial for trial in done(searched)}
    assert 0 < len(trained) < 12
    for number, trial in reached.items():
        over = trial.user_attrs["level0"]["flops_share"] > 0.8
        assert not (over and number in trained)
        assert (trial.constraints["max_flops"] > 0) == over
        assert (number in trained) == (trial.user_attrs["reached"] > 0)


def test_the_report_names_front_knee_best_and_what_matters(searched: Path) -> None:
    report = searched / ".secateur/search/quickstart/report"
    facts = json.loads((report / "report.json").read_text())
    last = {t["number"]: t["figures"] for t in facts["trials"] if t["level"] == 1}
    naive = {
        number
        for number, one in last.items()
        if not any(
            other["quality"] >= one["quality"] and other["flops_share"] <= one["flops_share"] and other != one
            for other in last.values()
        )
    }
    assert set(facts["front"]) == naive
    assert facts["knee"] in naive
    keeping = {n: f for n, f in last.items() if f["drop"] <= 0.1 and f["flops_share"] <= 0.8}
    assert facts["best"] == min(keeping, key=lambda n: keeping[n]["drop"])
    for shares in facts["importances"].values():
        assert set(shares) == {"score.criterion", "prune.rounds.0.neuron"}
        assert sum(shares.values()) == pytest.approx(1)
    page = (report / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org/", "")
    assert (report / "quality-flops.png").read_bytes().startswith(b"\x89PNG")


def test_each_trial_is_one_run_below_that_of_the_search(searched: Path) -> None:
    found = runs(searched)
    (parent,) = [run for run in found if "search.trial" not in run.data.tags]
    nested = [run for run in found if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert sorted(int(run.data.tags["search.trial"]) for run in nested) == list(range(12))
    assert {run.info.status for run in found} == {"FINISHED"}
    for run in nested:
        assert set(run.data.params) == {"score.criterion", "prune.rounds.0.neuron"}
        assert run.data.metrics["quality"] == pytest.approx(
            done(searched)[int(run.data.tags["search.trial"])].values[0]
        )


def test_optunas_dashboard_opens_on_the_storage(searched: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    storage = f"sqlite:///{searched}/.secateur/search/quickstart/study.db"
    command = [Path(sys.executable).with_name("optuna-dashboard"), storage, "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 120
        while True:
            try:
                said = urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies", timeout=5).read()
                break
            except OSError:
                assert time.monotonic() < end
                assert server.poll() is None
                time.sleep(0.2)
        (study,) = json.loads(said)["study_summaries"]
        assert study["study_name"] == "quickstart"
        assert study["directions"] == ["maximize", "minimize"]
        page = f"http://127.0.0.1:{port}/api/studies/{study['study_id']}"
        assert len(json.loads(urllib.request.urlopen(page, timeout=30).read())["trials"]) == 12
    finally:
        server.kill()
        server.wait()


def test_one_worker_does_the_same_again_also_when_it_was_stopped_between(searched: Path, root: Path) -> None:
    go(root, 2)
    go(root, 6)
    assert points(root) == points(searched)[:6]


def test_going_on_does_only_what_is_missing(searched: Path) -> None:
    before = (searched.parent / "calls").read_text()
    os.environ["SEARCH_ORDERS"] = str(searched.parent)
    go(searched, 12)
    del os.environ["SEARCH_ORDERS"]
    assert (searched.parent / "calls").read_text() == before
    assert len(runs(searched)) == 13


def test_another_space_is_refused_with_what_changed(searched: Path) -> None:
    with pytest.raises(UserError, match=r"begun with another recipe: evaluate.repeats was 3, is 8; put that back"):
        go(searched, 13, "evaluate.repeats=8")
    with pytest.raises(UserError, match=r"search.sampler was not set, is .random."):
        go(searched, 13, "search.sampler=random")
    space = SPACE.replace("high: 0.9", "high: 0.8")
    words = r"recipe: search.space.prune.rounds.0.neuron was .*0.9, .*, is .*0.8, .*; put that back"
    with pytest.raises(UserError, match=words):
        go(searched, 13, f"search.space={space}")


def test_fewer_trials_are_asked_for_than_before(root: Path) -> None:
    recipe, place = begun(root, None, SETTINGS, None)
    study = opened(place, recipe)
    issue(study, 5)
    issue(study, 2)
    assert Counter(trial.state for trial in study.get_trials()) == {TrialState.WAITING: 2, TrialState.FAIL: 3}
    issue(study, 3)
    assert Counter(trial.state for trial in study.get_trials())[TrialState.WAITING] == 3


def test_a_mistake_in_the_data_is_that_of_no_trial(root: Path) -> None:
    (root.parent / "mistake").touch()
    with pytest.raises(UserError, match="the data have no column stars"):
        go(root, 3)
    assert done(root) == []
    (root.parent / "mistake").unlink()
    go(root, 3)
    assert len(done(root)) == 3


def test_a_trial_whose_stage_is_killed_is_taken_up_again(root: Path) -> None:
    (root.parent / "kill").touch()
    go(root, 3)
    assert not (root.parent / "kill").exists()
    check_whole(root, 3, failed=1)


def test_a_draft_is_applied_without_being_compared(searched: Path) -> None:
    from flows.search.apply import _found

    recipe, place = begun(searched, None, SETTINGS, None)
    for trial in done(searched):
        number, wanted, _, digest = _found(place, recipe, str(trial.number))
        assert number == trial.number
        assert bool(digest) == (trial.user_attrs["reached"] > 0)
        if not digest:  # made as the recipe says
            assert wanted.finetune.epochs == recipe.finetune.epochs


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


def check_whole(root: Path, count: int, failed: int) -> None:
    """So many trials complete, none twice, nothing left at work anywhere."""
    found = trials_of(root)
    states = Counter(trial.state for trial in found)
    assert states[TrialState.COMPLETE] == count
    assert failed <= states[TrialState.FAIL] <= failed + 1
    assert set(states) == {TrialState.COMPLETE, TrialState.FAIL}
    assert len({json.dumps(trial.params) for trial in done(root)}) == count
    assert Counter(run.info.status for run in runs(root)) == {"FINISHED": count + 1}


def test_a_storage_that_is_no_good_is_one_message(root: Path) -> None:
    with pytest.raises(UserError, match=r"search.storage is no URL of a database; give postgresql://"):
        go(root, 1, "search.storage=nonsense")
    with pytest.raises(EnvironmentFault, match=r"unable to open database file\); start it, or set search.storage"):
        go(root, 1, "search.storage=sqlite:////nowhere/study.db")
    with pytest.raises(
        UserError, match=r"postgresql://me:\*\*\*@host/study holds a password; put it in PGPASSWORD"
    ) as caught:
        go(root, 1, "search.storage=postgresql://me:secret@host/study")
    assert "secret" not in str(caught.value)
    assert not (root.parent / "calls").exists()


def test_an_end_that_no_recipe_has_is_refused_at_the_door(root: Path) -> None:
    with pytest.raises(UserError, match=r"prune.damping = -1: prune.damping: -1.*must be above 0"):
        go(root, 1, "search.space={prune.damping: {low: -1, high: 1}}")
    with pytest.raises(UserError, match=r"score.criterion = .tailor.: .*did you mean taylor"):
        go(root, 1, "search.space={score.criterion: {choices: [taylor, tailor]}}")
    with pytest.raises(UserError, match=r"search.space of .*quickstart:\n  prune.rounds.2: there is no 2, but 0"):
        go(root, 1, "search.space={prune.rounds.2: {low: 0.1, high: 0.5}}")
    with pytest.raises(UserError, match=r"quickstart has no search.space; name"):
        search(root, None, ["search.space=null"], None, 1, 1, None, Progress(), STAGES)
