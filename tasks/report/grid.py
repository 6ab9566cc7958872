"""Tables of shaded cells: a share in each, the stronger the more."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tasks.report.canvas import COLOURS

NAMES = {
    "head": "Attention heads",
    "kv_group": "KV groups",
    "neuron": "FFN neurons",
    "attention": "Attention sublayers",
    "ffn": "FFN sublayers",
    "layer": "Layers",
    "width": "Residual width",
    "weight": "Single weights",
}
"""Kinds of unit."""
STRONGEST = 0.5
"""Opacity of a full cell: as strong as text on it stays readable in both themes."""
TALL, LOW = 0.44, 0.25
"""Inches of a row; the second where there are many."""
MANY = 12


def row_height(rows: int) -> float:
    """Inches."""
    return LOW if rows > MANY else TALL


def panels(figure: Figure, count: int, across: int) -> list[Axes]:
    """Axes in rows of at most `across`."""
    across = min(count, across)
    grid = figure.subplots(-(-count // across), across, squeeze=False).flatten().tolist()
    for axes in grid[count:]:
        axes.remove()
    return list(grid[:count])


def shade(axes: Axes, column: float, row: float, share: float, colour: str = "pruned") -> None:
    """One cell; `share` from 0 to 1."""
    place = (column - 0.485, row - 0.47)
    axes.add_patch(Rectangle(place, 0.97, 0.94, facecolor=COLOURS["line"], alpha=0.3, linewidth=0))
    axes.add_patch(Rectangle(place, 0.97, 0.94, facecolor=COLOURS[colour], alpha=STRONGEST * share**1.2, linewidth=0))


def frame(axes: Axes, columns: Sequence[str], rows: Sequence[str]) -> None:
    """Names of columns above, of rows on the left, the first row on top."""
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def percent(share: float) -> str:
    """Without decimals."""
    return f"{100 * share:.0f} %"
