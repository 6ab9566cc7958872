"""Quality of generated text: against references (BLEU, ROUGE), and by itself (distinct-n, repetition)."""

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from sacrebleu.metrics.bleu import BLEU

WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Rouge:
    """F1 of each kind, from 0 to 1, mean over the texts."""

    rouge1: float
    rouge2: float
    rouge_l: float


def bleu(texts: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, str]:
    """Corpus BLEU from 0 to 100, and sacrebleu's signature, which says how it was computed (Post, 2018).

    Args:
        texts: generated, at least one.
        references: of each text, at least one; their number may differ.
    """
    _check(texts, references)
    most = max(map(len, references))
    columns: list[Any] = [[own[i] if i < len(own) else None for own in references] for i in range(most)]
    metric = BLEU()
    score = metric.corpus_score(list(texts), columns)
    return float(score.score), str(metric.get_signature())


def rouge(texts: Sequence[str], references: Sequence[Sequence[str]]) -> Rouge:
    """ROUGE-1, -2 and -L (Lin, 2004): overlap of words, of pairs of words, and the longest common subsequence.

    Words are runs of letters, digits and _ in lower case, not stemmed. Of several references the best counts, for
    each kind by itself.

    Args:
        texts: generated, at least one.
        references: of each text, at least one; their number may differ.
    """
    _check(texts, references)
    sums = [0.0, 0.0, 0.0]
    for text, own in zip(texts, references, strict=True):
        words = WORD.findall(text.lower())
        scores = [_rouge(words, WORD.findall(reference.lower())) for reference in own]
        sums = [total + max(kind) for total, kind in zip(sums, zip(*scores, strict=True), strict=True)]
    return Rouge(*(total / len(texts) for total in sums))


def distinct(texts: Sequence[Sequence[Hashable]], n: int) -> float:
    """Share of different n-grams among all n-grams of all texts together (Li et al., 2016); 0 where there are none.

    Args:
        texts: words or tokens of each text.
        n: length of an n-gram.
    """
    grams = [gram for text in texts for gram in ngrams(text, n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def repetition(texts: Sequence[Sequence[Hashable]], n: int) -> float:
    """Share of n-grams that were there before in the same text, mean over texts (seq-rep-n; Welleck et al., 2020).

    Texts without an n-gram do not count; 0 where there is no other.

    Args:
        texts: words or tokens of each text.
        n: length of an n-gram.
    """
    counted = [grams for text in texts if (grams := ngrams(text, n))]
    return sum(1 - len(set(grams)) / len(grams) for grams in counted) / len(counted) if counted else 0.0


def ngrams(text: Sequence[Hashable], n: int) -> list[tuple[Hashable, ...]]:
    """All runs of `n` neighbours, in order."""
    if n < 1:
        raise ValueError(f"n-grams of {n}; at least 1")
    return list(zip(*(text[i:] for i in range(n)), strict=False))


def _rouge(text: list[str], reference: list[str]) -> tuple[float, float, float]:
    overlaps = []
    for n in (1, 2):
        ours, theirs = Counter(ngrams(text, n)), Counter(ngrams(reference, n))
        overlaps.append(_f1((ours & theirs).total(), ours.total(), theirs.total()))
    return overlaps[0], overlaps[1], _f1(_common(text, reference), len(text), len(reference))


def _common(first: list[str], second: list[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for j, other in enumerate(second, 1):
            diagonal, row[j] = row[j], diagonal + 1 if word == other else max(row[j], row[j - 1])
    return row[-1]


def _f1(hits: int, ours: int, theirs: int) -> float:
    return 2 * hits / (ours + theirs) if hits else 0.0


def _check(texts: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if not texts or len(texts) != len(references) or not all(references):
        raise ValueError(f"{len(texts)} texts with references of {len(references)}; each text needs at least one")
