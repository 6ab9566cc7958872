"""Answers: official rules against the implementation in transformers, spans and thresholds against brute force."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.data.metrics.squad_metrics import get_raw_scores

from tasks.text.data import Split, Windows
from tasks.text.qa import THRESHOLD, QuestionAnswering, best_threshold
from tasks.text.spans import best_spans
from tasks.text.squad import exact_match, f1

TASK = QuestionAnswering(max_length=16, doc_stride=4, max_answer=3, no_answer=True)
WORDS = [
    "the",
    "A",
    "an",
    "Denver",
    "Broncos,",
    "denver",
    "24–10",
    "“quoted”",
    "U.S.",
    "a.",
    "1,000",
    "",
    "é",
    "I’m",
    "-",
]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(answer=TEXTS, true=st.lists(TEXTS, max_size=3))
def test_rules_are_the_official_ones(answer, true):
    example = SimpleNamespace(qas_id="x", answers=[{"text": text} for text in true])
    exact, overlap = get_raw_scores([example], {"x": answer})
    assert exact_match(answer, true) == exact["x"]
    assert f1(answer, true) == pytest.approx(overlap["x"])


def make(seed, examples=6, length=12):
    """Windows of random logits; tokens 0 to 2 are no context, and characters are those of one word per token."""
    rng = np.random.default_rng(seed)
    owners = np.sort(np.concatenate([np.arange(examples), rng.integers(0, examples, 5)]))
    sizes = rng.integers(5, length + 1, len(owners))
    offsets, seen = [], np.zeros(examples, int)
    for owner, size in zip(owners, sizes, strict=True):
        first = max(0, seen[owner] - 2)
        pairs = [(-1, -1)] * 3 + [(2 * i, 2 * i + 1) for i in range(first, first + size - 3)]
        seen[owner] = first + size - 3
        offsets.append(np.array(pairs))
    context = " ".join("abcdefghijklmnopqrstuvwxyz"[i % 26] for i in range(40))
    answers = [[] if i % 3 == 0 else [context[2 * i : 2 * i + 3], "b"] for i in range(examples)]
    names = [str(i) for i in range(examples)]
    windows = Windows(names, names, [context] * examples, answers, owners, np.zeros(len(owners), np.int64), offsets)
    labels = np.stack([sizes // 2, sizes - 1], 1)
    split = Split([np.arange(n) for n in sizes], None, labels, 0, windows)
    logits = np.full((len(owners), 2, sizes.max()), -np.inf, np.float32)
    for row, size in enumerate(sizes):
        logits[row, :, :size] = rng.normal(size=(2, size))
    return split, logits


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [1, 4])
def test_spans_are_the_best_of_all(seed, count):
    split, logits = make(seed)
    windows = split.windows
    for example, found in enumerate(best_spans(logits, windows, 3, count)):
        every, null = {}, np.inf
        for row in np.flatnonzero(windows.example == example):
            null = min(null, logits[row, 0, 0] + logits[row, 1, 0])
            for start in range(3, len(windows.offsets[row])):
                for end in range(start, min(start + 3, len(windows.offsets[row]))):
                    span = int(windows.offsets[row][start, 0]), int(windows.offsets[row][end, 1])
                    every[span] = max(
                        every.get(span, -np.inf), float(logits[row, 0, start]) + float(logits[row, 1, end])
                    )
        best = sorted(every.items(), key=lambda entry: -entry[1])
        assert found.spans[0] == best[0][0]
        np.testing.assert_allclose(found.scores, [score for _, score in best[: len(found.scores)]])
        assert len(found.scores) == min(count, len(every))
        assert found.null == pytest.approx(null)


def test_a_context_without_tokens_has_an_empty_answer():
    split, logits = make(4)
    windows = split.windows
    for row in np.flatnonzero(windows.example == 2):
        windows.offsets[row][:] = -1
    assert QuestionAnswering(16, 4, 3, no_answer=False).predict(logits, split, {})[2] == ""
    assert np.isfinite(TASK.tune(logits, split)[THRESHOLD])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-4, 4), st.sampled_from([-1.0, 0.0, 0.4, 1.0])), min_size=1, max_size=12))
def test_the_threshold_is_the_best_of_all(pairs):
    margins, gains = np.array(pairs, float).T
    total = gains[margins <= best_threshold(margins, gains)].sum()
    assert total == pytest.approx(max(gains[margins <= t].sum() for t in np.arange(-5, 5, 0.5)))


def test_no_answer_above_the_threshold():
    split, logits = make(1)
    margins = [answer.margin for answer in best_spans(logits, split.windows, 3)]
    said = TASK.predict(logits, split, {THRESHOLD: float(np.median(margins))})
    assert [text == "" for text in said] == [margin > np.median(margins) for margin in margins]
    found = [
        TASK.cells(TASK.predict(logits, split, config), split)[:, 1].mean() for config in ({}, TASK.tune(logits, split))
    ]
    assert found[1] >= found[0]
    assert "" not in QuestionAnswering(16, 4, 3, no_answer=False).predict(logits, split, {})


def test_losses_are_their_formulas_whatever_the_padding():
    split, logits = make(2)
    _, teacher = make(3)
    teacher = np.resize(np.nan_to_num(teacher, neginf=0.5), logits.shape)
    rows, temperature = np.array([4, 0, 9]), 2.0

    def log_softmax(values):
        return values - np.log(np.exp(values).sum())

    hard, soft = [], []
    for row in rows:
        size, both = len(split.input_ids[row]), logits.astype(np.float64)
        hard.append(-np.mean([log_softmax(both[row, side, :size])[split.labels[row, side]] for side in (0, 1)]))
        q = [log_softmax(both[row, side, :size] / temperature) for side in (0, 1)]
        p = [log_softmax(teacher[row, side, :size].astype(np.float64) / temperature) for side in (0, 1)]
        soft.append(temperature**2 * np.mean([(np.exp(a) * (a - b)).sum() for a, b in zip(p, q, strict=True)]))
    for longest in (logits.shape[-1], max(len(split.input_ids[row]) for row in rows)):
        given = torch.tensor(np.nan_to_num(logits[rows, :, :longest], neginf=9.0)).requires_grad_()
        outputs = SimpleNamespace(start_logits=given[:, 0], end_logits=given[:, 1])
        np.testing.assert_allclose(TASK.loss(outputs, split, rows).detach(), hard, rtol=1e-5)
        found = TASK.soft_loss(outputs, torch.tensor(teacher[rows]), split, rows, temperature)
        np.testing.assert_allclose(found.detach(), soft, rtol=1e-4)
        found.sum().backward()
        assert torch.isfinite(given.grad).all()
        assert given.grad[1, :, len(split.input_ids[rows[1]]) :].abs().sum() == 0
