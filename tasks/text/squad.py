"""Exact match and F1 of answers by the rules of the official SQuAD scripts (Rajpurkar et al., 2016 and 2018)."""

import re
import string
from collections import Counter
from collections.abc import Sequence

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(answer: str) -> str:
    """Lower case, without ASCII punctuation, English articles and extra white space."""
    return " ".join(ARTICLES.sub(" ", answer.lower().translate(PUNCTUATION)).split())


def exact_match(answer: str, true: Sequence[str]) -> float:
    """1 if the answer equals one of the true ones in normal form; no true answer is the empty one."""
    return float(normalise(answer) in {normalise(text) for text in _golds(true)})


def f1(answer: str, true: Sequence[str]) -> float:
    """The best F1, over the true answers, of the words in normal form taken as a bag."""
    return max(_overlap(normalise(answer).split(), normalise(text).split()) for text in _golds(true))


def _golds(true: Sequence[str]) -> list[str]:
    """True answers that say something; if none does, the question has no answer."""
    return [text for text in true if normalise(text)] or [""]


def _overlap(answer: list[str], true: list[str]) -> float:
    if not answer or not true:
        return float(answer == true)
    same = (Counter(answer) & Counter(true)).total()
    precision, recall = same / len(answer), same / len(true)
    return 2 * precision * recall / (precision + recall) if same else 0.0
