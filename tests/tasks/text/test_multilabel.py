"""Multi-label classification: metrics against scikit-learn, losses against their formulas, labels from any column."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from prepare_rows import cleaned_many
from sklearn.metrics import accuracy_score, f1_score

from tasks.core.errors import UserError
from tasks.recipe.schema import METRICS
from tasks.text.data import Split
from tasks.text.metrics import Bootstrap, quality
from tasks.text.multilabel import MultiLabel
from tasks.text.registry import TASKS

TASK = MultiLabel(("a", "b", "c", "d"))
REFERENCE = {
    "micro_f1": lambda true, said: f1_score(true, said, average="micro", zero_division=0),
    "macro_f1": lambda true, said: f1_score(true, said, average="macro", zero_division=0),
    "subset_accuracy": accuracy_score,
}


def split_of(labels):
    return Split([np.arange(5, dtype=np.int64)] * len(labels), None, labels.astype(np.int64), 0)


def test_recipes_may_say_what_the_registry_has():
    assert {name: tuple(task.metrics) for name, task in TASKS.items()} == METRICS


@pytest.mark.parametrize("name", sorted(REFERENCE))
@pytest.mark.parametrize("share", [0.0, 0.2, 0.7])
def test_equals_scikit_learn(name, share):
    rng = np.random.default_rng(7)
    true = (rng.random((90, 4)) < [0.5, 0.3, 0.1, share]).astype(np.int64)
    logits = np.where(rng.random((90, 4)) < 0.8, 2 * true - 1, rng.normal(size=(90, 4))).astype(np.float32)
    split = split_of(true)
    cells = TASK.cells(TASK.predict(logits, split, {}), split)
    said = logits > 0
    assert quality(TASK.metrics[name], cells) == pytest.approx(REFERENCE[name](true, said))
    draws = np.random.default_rng(3).integers(0, 90, (50, 90))
    values = [REFERENCE[name](true[d], said[d]) for d in draws]
    interval = Bootstrap(TASK.metrics[name], 90, 50, seed=3).quality(cells)
    np.testing.assert_allclose([interval.low, interval.high], np.percentile(values, [2.5, 97.5]))


def test_losses_are_their_formulas():
    rng = np.random.default_rng(0)
    logits, teacher, true = rng.normal(size=(5, 4)), 2 * rng.normal(size=(9, 4)), rng.integers(0, 2, (9, 4))
    rows, temperature = np.array([8, 0, 3, 3, 5]), 3.0

    def sigmoid(values):
        return 1 / (1 + np.exp(-values))

    outputs = SimpleNamespace(logits=torch.tensor(logits, dtype=torch.float32))
    y, p = true[rows], sigmoid(logits)
    hard = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean(-1)
    np.testing.assert_allclose(TASK.loss(outputs, split_of(true), rows), hard, rtol=1e-5)
    p, q = sigmoid(teacher[rows] / temperature), sigmoid(logits / temperature)
    soft = temperature**2 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean(-1)
    taught = torch.tensor(teacher[rows], dtype=torch.float32)
    found = TASK.soft_loss(outputs, taught, split_of(true), rows, temperature)
    np.testing.assert_allclose(found, soft, rtol=1e-4)


@pytest.mark.parametrize(
    ("values", "classes", "labels"),
    [
        (["x,y", "y", ""], ["x", "y"], [(0, 1), (1,), ()]),
        (['["x", "y,z"]', "[]", '["y,z"]'], ["x", "y,z"], [(0, 1), (), (1,)]),
        ([["x"], [], ["z", "x", "z"]], ["x", "z"], [(0,), (), (0, 1)]),
        ([[10, 9], 9, [10]], ["9", "10"], [(0, 1), (0,), (1,)]),
    ],
)
def test_labels_of_any_column(values, classes, labels):
    found = cleaned_many(values)
    assert found.classes == classes
    assert [row.label for row in found.splits["train"]] == labels


def test_another_separator_and_chosen_labels():
    found = cleaned_many(["x; y", "z;x", "z"], separator=";", labels=("y", "x"))
    assert [row.label for row in found.splits["train"]] == [(0, 1), (1,), ()]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (["x,y", None, "y"], "1 of 3 rows have no label"),
        (['["x"', "y"], r"line 2: the labels .* are no JSON list"),
        ([["x", None], ["y"]], "one of the labels .* is empty"),
        (["x", "x,x"], "one class only"),
        (["", ""], "2 of 2 rows have no label"),
    ],
)
def test_mistakes_in_labels(values, says):
    with pytest.raises(UserError, match=says):
        cleaned_many(values)
