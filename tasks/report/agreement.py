"""How far criteria rank the same units alike."""

import itertools
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from tasks.report.canvas import canvas, save
from tasks.report.grid import NAMES, frame, panels, shade

Values = NDArray[np.float64]
ACROSS = 3


def spearman(first: Values, second: Values) -> float | None:
    """Spearman's rank correlation: Pearson's of the ranks, equal values sharing the mean of theirs (Spearman, 1904).

    Args:
        first: shape (units,).
        second: of the same shape.

    Returns:
        From -1 to 1; None where it is not defined: fewer than two units, or all of them equal.
    """
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"two vectors of one length, not of shapes {first.shape} and {second.shape}")
    one, other = (ranks(values) for values in (first, second))
    one, other = one - one.mean() if len(one) else one, other - other.mean() if len(other) else other
    scale = float(np.sqrt((one @ one) * (other @ other)))
    return float(np.clip(one @ other / scale, -1.0, 1.0)) if scale else None


def ranks(values: Values) -> Values:
    """From 1, in ascending order; equal values get the mean of their ranks; shape (units,)."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[place], np.float64)


def agreement(path: Path, normalized: bool) -> dict[str, Any] | None:
    """By kind, the correlations of every two criteria: over the units of all layers, and as mean over the layers.

    Args:
        path: compare.safetensors of the first round: the same units of the dense model, scored by several criteria.
        normalized: each layer's scores are divided by their L2 norm first, as the plan does.

    Returns:
        None where nothing was compared. Of a kind only the criteria that say something of it are there.
    """
    if not path.is_file():
        return None
    found: dict[str, dict[str, dict[str, Values]]] = defaultdict(lambda: defaultdict(dict))
    with safe_open(path, "numpy") as file:
        for key in file.keys():  # noqa: SIM118
            criterion, _, name = key.partition("/")
            found[name.partition(".")[0]][criterion][name] = file.get_tensor(key).astype(np.float64)
    kinds = sorted(found, key=list(NAMES).index)
    return {
        "round": path.parent.name,
        "kinds": {kind: _matrices(found[kind], normalized and kind != "weight") for kind in kinds},
    }


def agreement_picture(facts: Mapping[str, Any], out: Path) -> str | None:
    """Draws agreement.png and returns the SVG: a panel for each kind, a cell for each two criteria."""
    kinds = {kind: own for kind, own in facts["kinds"].items() if len(own["criteria"]) > 1 and own["units"] > 2}
    if not kinds:
        return None
    most = max(len(own["criteria"]) for own in kinds.values())
    with canvas((1.0 + 0.4 * most) * -(-len(kinds) // ACROSS), "agreement") as figure:
        for axes, (kind, own) in zip(panels(figure, len(kinds), ACROSS), kinds.items(), strict=True):
            for row, column in itertools.product(range(len(own["criteria"])), repeat=2):
                value = own["spearman"][row][column]
                if value is not None:
                    shade(axes, column, row, abs(value), "pruned" if value >= 0 else "bad")
                words = "–" if value is None else f"{value:.2f}".replace("-", "\u2212")
                axes.text(column, row, words, fontsize=8, ha="center", va="center")
            names = [criterion.replace("_", " ") for criterion in own["criteria"]]
            frame(axes, [name.replace(" ", "\n") for name in names], names)
            axes.tick_params(labelsize=7.5)
            axes.set_title(f"{NAMES[kind]} ({own['units']:,})".replace(",", "\u202f"), pad=8)
        every = ", ".join(dict.fromkeys(name for own in kinds.values() for name in own["criteria"]))
        return save(figure, out, "agreement", f"Rank correlation of the criteria {every} by kind of unit")


def _matrices(found: Mapping[str, Mapping[str, Values]], normalized: bool) -> dict[str, Any]:
    criteria = sorted(found)
    layers = sorted(set.intersection(*(set(found[name]) for name in criteria)))
    vectors = {name: [_scaled(found[name][layer], normalized) for layer in layers] for name in criteria}
    joined = {name: np.concatenate(parts) for name, parts in vectors.items()}
    inside = {pair: _mean(vectors[pair[0]], vectors[pair[1]]) for pair in itertools.product(criteria, repeat=2)}
    return {
        "criteria": criteria,
        "units": len(joined[criteria[0]]),
        "spearman": [[spearman(joined[one], joined[other]) for other in criteria] for one in criteria],
        "within_layers": [[inside[one, other] for other in criteria] for one in criteria],
    }


def _scaled(values: Values, normalized: bool) -> Values:
    norm = float(np.linalg.norm(values)) if normalized else 1.0
    return values / (norm or 1.0)


def _mean(first: list[Values], second: list[Values]) -> float | None:
    found = [spearman(one, other) for one, other in zip(first, second, strict=True)]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known else None
