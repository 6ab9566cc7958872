"""How the importance of units spreads within each layer, against the threshold that decided."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from safetensors.numpy import load_file

from tasks.core.files import read_json
from tasks.report.canvas import COLOURS, canvas, note, save
from tasks.report.removed import NAMES

FEW = 40
"""Up to so many units of a layer each gets a dot."""
LOWEST = 1e-12


def scores(directory: Path, cut: Path, names: list[str], normalized: bool, out: Path) -> str | None:
    """Draws scores.png and returns the SVG: a row of panels for each round; None where no round has both files.

    Args:
        directory: data/scores.
        cut: models/cut.
        names: Rounds, in order.
        normalized: Each layer's scores are divided by their L2 norm first, as the plan did.
    """
    found = [name for name in names if (directory / name / "scores.safetensors").is_file()]
    if not found:
        return None
    plans = {name: read_json(cut / name / "plan.json") for name in found}
    kinds = list(dict.fromkeys(group["kind"] for name in found for group in plans[name]["groups"]))
    with canvas(0.5 + 1.9 * len(found), "scores") as figure:
        grid = figure.subplots(len(found), len(kinds), squeeze=False)
        for row, name in zip(grid, found, strict=True):
            vectors = load_file(directory / name / "scores.safetensors")
            for axes, kind in zip(row, kinds, strict=True):
                _panel(axes, kind, vectors, plans[name], normalized)
                axes.set_title(f"{NAMES.get(kind, kind)}, {name}", pad=5)
        for axes in grid[-1]:
            axes.set_xlabel("layer")
        for row in grid:
            row[0].set_ylabel("score / layer norm" if normalized else "score")
        return save(figure, out, "scores", f"Scores of units by layer in rounds {', '.join(found)}")


def _panel(axes: Axes, kind: str, vectors: Mapping[str, np.ndarray], plan: Mapping[str, Any], normalized: bool) -> None:
    axes.set_yscale("log")
    axes.grid(visible=True, axis="y")
    layers = sorted(int(key.partition(".")[2]) for key in vectors if key.startswith(f"{kind}."))
    for layer in layers:
        values = vectors[f"{kind}.{layer}"].astype(np.float64)
        norm = float(np.linalg.norm(values)) if normalized else 1.0
        _layer(axes, layer, np.maximum(values / (norm or 1.0), LOWEST))
    threshold = plan["threshold"].get(kind)
    if threshold:
        axes.axhline(threshold, color=COLOURS["bad"], linewidth=1, linestyle=(0, (4, 3)))
        note(
            axes,
            "kept above",
            (1, threshold),
            (-1, 2),
            COLOURS["bad"],
            axes.get_yaxis_transform(),
            ha="right",
            size=7.5,
        )
    axes.set_xticks(layers, [str(layer) for layer in layers])
    axes.set_xlim(-0.5, 1.16 * max(layers, default=0) + 0.7)


def _layer(axes: Axes, layer: int, values: np.ndarray) -> None:
    """Dots for a few units; for many the middle half as a bar, 1 to 99 % as a line, and the median."""
    colour = COLOURS["pruned"]
    if len(values) <= FEW:
        axes.plot([layer] * len(values), values, "o", color=colour, markersize=4, alpha=0.65, markeredgewidth=0)
        return
    low, first, middle, third, high = np.percentile(values, [1, 25, 50, 75, 99])
    axes.vlines(layer, low, high, color=colour, linewidth=1, alpha=0.6)
    axes.vlines(layer, first, third, color=colour, linewidth=6, alpha=0.55)
    axes.plot(layer, middle, "o", color=COLOURS["surface"], markersize=3.5, zorder=3)
