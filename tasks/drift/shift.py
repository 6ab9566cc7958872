"""How far two samples are apart: each a size that does not grow with the rows, and the chance of one as large."""

from collections import Counter

import numpy as np
from scipy import stats

from tasks.drift.sample import Sample
from tasks.prepare.rows import normal


def length_shift(then: Sample, now: Sample) -> tuple[float, float]:
    """Distance of Kolmogorov and Smirnov of the texts' lengths in characters, and its p."""
    found = stats.ks_2samp([len(text) for text in then.texts], [len(text) for text in now.texts])
    return float(found.statistic), float(found.pvalue)


def class_shift(then: Sample, now: Sample) -> tuple[float, float]:
    """Cramér's V of class against sample, and the p of its chi-square."""
    table = np.array([then.counts, now.counts])
    table = table[:, table.sum(0) > 0]
    if table.shape[1] < 2:
        return 0.0, 1.0
    found = stats.chi2_contingency(table, correction=False)
    return float(np.sqrt(found.statistic / table.sum())), float(found.pvalue)


def unknown_words(then: Sample, now: Sample) -> tuple[float, str]:
    """Share of the words of new texts that no training text had, and what they are."""
    known = {normal(text) for text in then.texts}
    new = [text for text in now.texts if normal(text) not in known]
    words = Counter(word for text in new for word in normal(text).split())
    unknown = Counter({word: count for word, count in words.items() if word not in then.words})
    share = unknown.total() / words.total() if words else 0.0
    often = f", such as {', '.join(word[:30] for word, _ in unknown.most_common(3))}" if unknown else ""
    return share, f"{share:.3f} of the words of {len(new)} new texts are unknown{often}"


def relabelled(then: Sample, now: Sample) -> tuple[float, str]:
    """Share of the known texts whose label is another now."""
    known = [key for key in now.labels if key in then.labels]
    other = sum(now.labels[key] != then.labels[key] for key in known)
    return other / len(known) if known else 0.0, f"{other} of {len(known)} known texts have another label"
