import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.text.generated import bleu, distinct, repetition, rouge

WORDS = ["the", "cat", "sat", "on", "a", "mat", "dog"]
texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=9), min_size=1, max_size=4)


def grams(words, n):
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def subsequences(words):
    return {c for size in range(len(words) + 1) for c in itertools.combinations(words, size)}


def naive_rouge(words, reference):
    scores = []
    for n in (1, 2):
        left, hits = grams(reference, n), 0
        for gram in grams(words, n):
            if gram in left:
                left.remove(gram)
                hits += 1
        scores.append((hits, len(grams(words, n)), len(grams(reference, n))))
    longest = max(map(len, subsequences(words) & subsequences(reference)))
    scores.append((longest, len(words), len(reference)))
    out = []
    for hits, ours, theirs in scores:
        precision, recall = (hits / ours if ours else 0), (hits / theirs if theirs else 0)
        out.append(2 * precision * recall / (precision + recall) if hits else 0)
    return out


@given(texts, st.data())
def test_rouge_is_the_f1_of_words_pairs_and_longest_subsequence_best_reference_for_each(rows, data):
    references = [
        data.draw(st.lists(st.lists(st.sampled_from(WORDS), max_size=9), min_size=1, max_size=3)) for _ in rows
    ]
    found = rouge([" ".join(r) for r in rows], [[" ".join(r) for r in own] for own in references])
    best = [
        [max(kind) for kind in zip(*(naive_rouge(row, r) for r in own), strict=True)]
        for row, own in zip(rows, references, strict=True)
    ]
    for value, kind in zip((found.rouge1, found.rouge2, found.rouge_l), zip(*best, strict=True), strict=True):
        assert value == pytest.approx(sum(kind) / len(rows))


def test_rouge_does_not_mind_case_and_punctuation_and_knows_letters_of_any_language():
    assert rouge(["The Cat, sat!"], [["the cat sat"]]).rouge2 == 1.0
    assert rouge(["Łódź école"], [["łódź École"]]).rouge1 == 1.0


def test_bleu_is_the_brevity_penalty_times_the_geometric_mean_of_clipped_precisions():
    rng = np.random.default_rng(0)
    rows = [rng.choice(WORDS, rng.integers(6, 13)).tolist() for _ in range(30)]
    references = [
        [
            [w if rng.random() < 0.7 else str(rng.choice(WORDS)) for w in row][: rng.integers(5, 13)]
            for _ in range(1 + i % 3)
        ]
        for i, row in enumerate(rows)
    ]
    precisions = []
    for n in range(1, 5):
        hits = total = 0
        for row, own in zip(rows, references, strict=True):
            mine = grams(row, n)
            total += len(mine)
            hits += sum(min(mine.count(g), max(grams(r, n).count(g) for r in own)) for g in set(mine))
        precisions.append(hits / total)
    ours = sum(map(len, rows))
    theirs = sum(
        min((abs(len(r) - len(row)), len(r)) for r in own)[1] for row, own in zip(rows, references, strict=True)
    )
    penalty = 1 if ours > theirs else math.exp(1 - theirs / ours)
    expected = 100 * penalty * math.exp(sum(map(math.log, precisions)) / 4)
    found, signature = bleu([" ".join(r) for r in rows], [[" ".join(r) for r in own] for own in references])
    assert found == pytest.approx(expected)
    assert "tok:13a" in signature


@given(texts, st.integers(1, 3))
def test_distinct_and_repetition_count_grams(rows, n):
    everything = [g for row in rows for g in grams(row, n)]
    assert distinct(rows, n) == (len(set(everything)) / len(everything) if everything else 0.0)
    shares = []
    for row in rows:
        seen, repeated = [], 0
        for gram in grams(row, n):
            repeated += gram in seen
            seen.append(gram)
        if seen:
            shares.append(repeated / len(seen))
    assert repetition(rows, n) == pytest.approx(sum(shares) / len(shares) if shares else 0.0)


def test_a_loop_repeats_and_is_not_distinct():
    loop = ["a", "b"] * 50
    assert repetition([loop], 2) == pytest.approx(97 / 99)
    assert distinct([loop], 2) == pytest.approx(2 / 99)


@pytest.mark.parametrize(("made", "references"), [([], []), (["a"], []), (["a"], [[]]), (["a"], [["a"], ["b"]])])
def test_texts_without_references_of_their_own_are_refused(made, references):
    for metric in (bleu, rouge):
        with pytest.raises(ValueError, match="at least one"):
            metric(made, references)
