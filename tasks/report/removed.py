"""What is left of every layer after each round."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from tasks.report.canvas import COLOURS, canvas, save

NAMES = {"head": "Attention heads", "neuron": "FFN neurons"}
STRONGEST = 0.5
"""Opacity of a cell that lost nothing: as strong as text on it stays readable in both themes."""


def removed(rounds: Sequence[Mapping[str, Any]], out: Path) -> str:
    """Draws removed.png and returns the SVG: a row for each layer, a column for each round, a panel for each kind."""
    kinds = list(dict.fromkeys(group["kind"] for entry in rounds for group in entry["layers"]))
    layers = 1 + max(group["layer"] for entry in rounds for group in entry["layers"])
    with canvas(0.95 + 0.44 * layers, "removed") as figure:
        for axes, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
            _panel(axes, kind, rounds, layers)
        return save(figure, out, "removed", "Share of heads and neurons kept in each layer after each round")


def _panel(axes: Axes, kind: str, rounds: Sequence[Mapping[str, Any]], layers: int) -> None:
    for column, entry in enumerate(rounds):
        for group in (group for group in entry["layers"] if group["kind"] == kind):
            _cell(axes, column, group, brief=len(rounds) > 4)
    axes.set_xlim(-0.5, len(rounds) - 0.5)
    axes.set_ylim(layers - 0.5, -0.5)
    axes.set_xticks(range(len(rounds)), [_head(entry, kind, "\n" if len(rounds) > 3 else " · ") for entry in rounds])
    axes.set_yticks(range(layers), [str(layer) for layer in range(layers)])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_ylabel("layer")
    axes.set_title(NAMES.get(kind, kind), pad=8)


def _cell(axes: Axes, column: int, group: Mapping[str, Any], *, brief: bool) -> None:
    share = group["kept"] / group["total"]
    place = (column - 0.485, group["layer"] - 0.47)
    axes.add_patch(Rectangle(place, 0.97, 0.94, facecolor=COLOURS["line"], alpha=0.3, linewidth=0))
    axes.add_patch(Rectangle(place, 0.97, 0.94, facecolor=COLOURS["pruned"], alpha=STRONGEST * share**1.2, linewidth=0))
    row, words = group["layer"], f"{group['kept']} of {group['total']}"
    if brief:
        axes.text(column, row, _percent(share), fontsize=8, ha="center", va="center")
    else:
        axes.text(column, row - 0.13, _percent(share), fontsize=9, fontweight="bold", ha="center", va="center")
        axes.text(column, row + 0.24, words, fontsize=7, ha="center", va="center")


def _head(entry: Mapping[str, Any], kind: str, between: str) -> str:
    groups = [group for group in entry["layers"] if group["kind"] == kind]
    kept, total = sum(group["kept"] for group in groups), sum(group["total"] for group in groups)
    return f"{entry['round']}{between}{_percent(kept / total)} kept" if total else str(entry["round"])


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
