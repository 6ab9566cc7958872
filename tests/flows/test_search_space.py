"""Which settings a trial is asked for, and when."""

import json
from pathlib import Path

import pytest

from flows.search.run import begun
from flows.search.space import own
from tests.flows.searching import SETTINGS, done, empty, go, runs

RATE = "finetune.learning_rate"
SPACE = (
    "{score.criterion: {choices: [random, taylor]}, prune.rounds.0.neuron: {low: 0.1, high: 0.9}, "
    "finetune.learning_rate: {low: 1.0e-5, high: 1.0e-3, log: true}}"
)
OWN = {"score.criterion": '"taylor"', "prune.rounds.0.neuron": 0.5, RATE: 1e-4}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return empty(tmp_path, monkeypatch)


def test_how_to_train_is_asked_of_trials_that_are_trained(root: Path) -> None:
    go(root, 9, f"search.space={SPACE}")
    trained = {trial.number: trial.user_attrs["reached"] > 0 for trial in done(root)}
    assert set(trained.values()) == {True, False}
    for trial in done(root):
        assert (RATE in trial.params) == (RATE in trial.user_attrs["values"]) == trained[trial.number]
    for run in runs(root):
        if number := run.data.tags.get("search.trial"):
            assert (RATE in run.data.params) == trained[int(number)]


def test_the_first_trial_is_the_recipe_itself(root: Path) -> None:
    go(root, 2, f"search.space={SPACE}")
    assert done(root)[0].params == OWN
    assert done(root)[1].params != OWN


@pytest.mark.parametrize("name", ["random", "qmc"])
def test_but_not_where_the_points_are_the_samplers_alone(root: Path, name: str) -> None:
    go(root, 1, f"search.space={SPACE}", f"search.sampler={name}")
    assert done(root)[0].params["prune.rounds.0.neuron"] != 0.5


@pytest.mark.parametrize(
    ("key", "entry", "value"),
    [
        ("prune.rounds.0.neuron", "{low: 0.6, high: 0.9}", None),
        ("prune.rounds.0.neuron", "{low: 0.2, high: 0.9, step: 0.1}", 0.5),
        ("prune.rounds.0.neuron", "{low: 0.25, high: 0.85, step: 0.3}", None),
        ("prune.rounds.0", "{choices: [{neuron: 0.5}, {head: 0.5}]}", '{"neuron": 0.5}'),
        ("score.criterion", "{choices: [random, fisher]}", None),
        ("train.patience", "{low: 1, high: 3}", None),
        ("score.rows", "{low: 5, high: 900, log: true}", 512),
    ],
)
def test_a_setting_that_lies_outside_its_range_is_sampled(root: Path, key: str, entry: str, value: object) -> None:
    recipe, _ = begun(root, None, [*SETTINGS, f"search.space={{{key}: {entry}}}"], None)
    assert own(recipe) == ({} if value is None else {key: value})
    assert json.dumps(own(recipe))
