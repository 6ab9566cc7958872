"""What is said of a graph against its source is what a plain comparison says."""

from dataclasses import replace

import numpy as np
import pytest
from tiny import TASK, rows

from tasks.quantize.verify import WORST, verify
from tasks.text.data import Windows
from tasks.text.qa import QuestionAnswering


def test_classification():
    split, rng = rows(40), np.random.default_rng(0)
    source = rng.normal(size=(40, 3)).astype(np.float32)
    made = source + 0.5 * rng.normal(size=(40, 3)).astype(np.float32)
    names = np.arange(40) * 7
    found = verify(source, made, split, TASK, {}, names)
    errors = np.abs(source.astype(np.float64) - made)
    assert found["examples"] == 40
    assert found["agreement"] == np.mean(source.argmax(1) == made.argmax(1)) < 1
    assert found["max_error"] == pytest.approx(errors.max(), rel=1e-6)
    assert found["mean_error"] == pytest.approx(errors.mean(), rel=1e-6)
    assert found["scale"] == pytest.approx(source.std(), rel=1e-6)
    order = np.argsort(-errors.max(1))[:WORST]
    assert [entry["index"] for entry in found["worst"]] == (7 * order).tolist()
    for entry, row in zip(found["worst"], order, strict=True):
        assert (entry["source"], entry["quantized"]) == (source[row].argmax(), made[row].argmax())
        assert entry["error"] == pytest.approx(errors[row].max(), rel=1e-6)


def test_questions_by_their_windows_without_padding():
    """Two windows of the first question, one of the second; what lies behind a row's tokens says nothing."""
    split = replace(rows(3), input_ids=[np.arange(5), np.arange(4), np.arange(6)])
    offsets = [np.array([[-1, -1], *([i, i + 1] for i in range(len(ids) - 1))]) for ids in split.input_ids]
    windows = Windows(
        ["a", "b"], ["?", "?"], ["abcdefg", "hijklmn"], [[], []], np.array([0, 0, 1]), np.zeros(3, np.int64), offsets
    )
    split = replace(split, windows=windows)
    source = np.random.default_rng(0).normal(size=(3, 2, 6)).astype(np.float32)
    source[1, :, 4:] = -np.inf
    made = source.copy()
    made[1, 0, 2] += 9.0
    made[0, 1, 5] += 100.0
    task = QuestionAnswering(16, 4, 3, no_answer=False)
    found = verify(source, made, split, task, {}, np.arange(2))
    assert found["examples"] == 2
    assert found["max_error"] == pytest.approx(9.0)
    assert found["mean_error"] == pytest.approx(9.0 / (2 * (5 + 4 + 6)), rel=1e-5)
    assert found["agreement"] == 0.5
    first = found["worst"][0]
    assert (first["index"], first["error"]) == (0, pytest.approx(9.0))
    assert first["quantized"].startswith("b")
    assert found["worst"][1]["source"] == found["worst"][1]["quantized"]
