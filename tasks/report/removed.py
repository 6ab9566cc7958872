"""What is left of every layer after each round, and the zeros of each matrix."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from tasks.report.canvas import canvas, save
from tasks.report.grid import MANY, NAMES, frame, panels, percent, row_height, shade

ACROSS = 3
"""Panels side by side."""


def removed(rounds: Sequence[Mapping[str, Any]], out: Path) -> str:
    """Draws removed.png and returns the SVG: a row for each layer, a column for each round, a panel for each kind."""
    kinds = list(dict.fromkeys(group["kind"] for entry in rounds for group in entry["layers"]))
    layers = 1 + max(group["layer"] for entry in rounds for group in entry["layers"])
    height = 0.95 + row_height(layers) * layers
    with canvas(height * -(-len(kinds) // ACROSS), "removed") as figure:
        for axes, kind in zip(panels(figure, len(kinds), ACROSS), kinds, strict=True):
            _panel(axes, kind, rounds, layers)
        names = " and ".join(NAMES[kind].lower() for kind in kinds)
        return save(figure, out, "removed", f"Share kept in each layer after each round: {names}")


def zeros(rounds: Sequence[Mapping[str, Any]], out: Path) -> str:
    """Draws zeros.png of the last round and returns the SVG: a row for each layer, a column for each of its matrices.

    Args:
        rounds: those that removed single weights; `weights` has layer, matrix, before and kept.
    """
    entry = rounds[-1]
    names = list(dict.fromkeys(short(matrix["matrix"]) for matrix in entry["weights"]))
    layers = sorted({matrix["layer"] for matrix in entry["weights"]})
    with canvas(1.35 + row_height(len(layers)) * len(layers), "zeros") as figure:
        axes = figure.subplots()
        for matrix in entry["weights"]:
            share = 1 - matrix["kept"] / matrix["before"]
            column, row = names.index(short(matrix["matrix"])), layers.index(matrix["layer"])
            shade(axes, column, row, share, "bad")
            axes.text(column, row, percent(share), fontsize=8, ha="center", va="center")
        frame(axes, [name.replace(".", "\n") for name in names], [str(layer) for layer in layers])
        axes.set_ylabel("layer")
        axes.set_title(f"Zeros of each matrix, {entry['round']}", pad=8)
        return save(figure, out, "zeros", f"Share of zeros in each matrix of each layer after round {entry['round']}")


def short(matrix: str) -> str:
    """A matrix's name within its layer: attention.self.query."""
    parts = matrix.removesuffix(".weight").split(".")
    numbers = [place for place, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[numbers[0] + 1 :]) if numbers else matrix


def _panel(axes: Axes, kind: str, rounds: Sequence[Mapping[str, Any]], layers: int) -> None:
    brief = len(rounds) > 4 or layers > MANY
    for column, entry in enumerate(rounds):
        for group in (group for group in entry["layers"] if group["kind"] == kind):
            _cell(axes, column, group, brief=brief)
    between = "\n" if len(rounds) > 3 else " · "
    rows = ["all" if kind == "width" and not layer else str(layer) for layer in range(1 if kind == "width" else layers)]
    frame(axes, [_head(entry, kind, between) for entry in rounds], rows)
    axes.set_ylabel("layer")
    axes.set_title(NAMES.get(kind, kind), pad=8)


def _cell(axes: Axes, column: int, group: Mapping[str, Any], *, brief: bool) -> None:
    share, row = group["kept"] / group["total"], group["layer"]
    shade(axes, column, row, share)
    if brief or group["kind"] == "weight":
        axes.text(column, row, percent(share), fontsize=8, ha="center", va="center")
        return
    axes.text(column, row - 0.13, percent(share), fontsize=9, fontweight="bold", ha="center", va="center")
    axes.text(column, row + 0.24, f"{group['kept']} of {group['total']}", fontsize=7, ha="center", va="center")


def _head(entry: Mapping[str, Any], kind: str, between: str) -> str:
    groups = [group for group in entry["layers"] if group["kind"] == kind]
    kept, total = sum(group["kept"] for group in groups), sum(group["total"] for group in groups)
    return f"{entry['round']}{between}{percent(kept / total)} kept" if total else str(entry["round"])
