"""Searches: each trial once, what is common once, the report, the same again."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
from optuna.trial import TrialState

from flows.search.level import FORETOLD, SPEED
from flows.search.records import metrics
from flows.search.run import begun
from tests.flows.conftest import make_workspace
from tests.flows.searching import SETTINGS, done, empty, go, points, runs, trials_of


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return empty(tmp_path, monkeypatch)


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
    drafts = [draft for trial in done(searched) for draft in trial.user_attrs.get("drafts", [trial.user_attrs])]
    criteria = {json.loads(draft["params"]["score.criterion"]) for draft in drafts if "params" in draft} | {"taylor"}
    assert calls["prepare"] == calls["train"] == 1
    assert calls["score@r1"] == len(criteria)
    assert calls["moments"] == 1
    assert calls["draft@r1"] == len(drafts) == 1 + 11 * 4  # the first trial is the recipe itself
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


def test_a_draft_is_applied_without_being_compared(searched: Path) -> None:
    from flows.search.apply import _found

    recipe, place = begun(searched, None, SETTINGS, None)
    for trial in done(searched):
        number, wanted, _, digest = _found(place, recipe, str(trial.number))
        assert number == trial.number
        assert bool(digest) == (trial.user_attrs["reached"] > 0)
        if not digest:  # made as the recipe says
            assert wanted.finetune.epochs == recipe.finetune.epochs


def test_a_speed_that_was_not_measured_says_so() -> None:
    found = {"model": "models/cut/r1", "quality": 0.5, "latency_ms_b1": 2, "latency_share": 0.25, "speedup_b32": 4.0}
    assert metrics({**found, SPEED: "measured"}) == {key: one for key, one in found.items() if key != "model"}
    told = metrics({**found, SPEED: FORETOLD})
    assert told == {
        "quality": 0.5,
        "foretold.latency_ms_b1": 2,
        "foretold.latency_share": 0.25,
        "foretold.speedup_b32": 4,
    }
