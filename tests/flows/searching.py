"""Searches with stages that take no time, on a real SQLite."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from flows.progress import Progress
from flows.search.run import search
from tests.flows.conftest import make_workspace

STAGES = "tests.flows.search_stages"
SPACE = "{score.criterion: {choices: [taylor, random]}, prune.rounds.0.neuron: {low: 0.1, high: 0.9}}"
SETTINGS = (
    "prune.rounds=[{neuron: 0.5}]",
    "budget={max_drop: 0.1, speedup_b1: null, speedup_b32: null, max_flops: 0.8}",
    f"search.space={SPACE}",
    "search.objectives=[quality, flops]",
    "search.reduction=1.5",
    "search.heartbeat=60",
)


def empty(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace whose stages take their orders from `directory`."""
    monkeypatch.setenv("SEARCH_ORDERS", str(directory))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return make_workspace(directory / "workspace")


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


def check_whole(root: Path, count: int, failed: int) -> None:
    """So many trials complete, none twice, nothing left at work anywhere."""
    found = trials_of(root)
    states = Counter(trial.state for trial in found)
    assert states[TrialState.COMPLETE] == count
    assert failed <= states[TrialState.FAIL] <= failed + 1
    assert set(states) == {TrialState.COMPLETE, TrialState.FAIL}
    assert len({json.dumps(trial.params) for trial in done(root)}) == count
    assert Counter(run.info.status for run in runs(root)) == {"FINISHED": count + 1}
