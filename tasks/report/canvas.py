"""Figures in the page's type and colours: PNG files in its light colours, inline SVG that follows its theme."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Transform

COLOURS = {
    "ink": "#1d2730",
    "muted": "#67727c",
    "line": "#d9dee2",
    "surface": "#fefefd",
    "dense": "#45566a",
    "pruned": "#1c7c5a",
    "student": "#bf6a1e",
    "bad": "#b23a30",
}
"""The light theme. Each is told from the others in an SVG and becomes the CSS variable of its name."""

WIDTH = 9.6
"""Inches."""


@contextmanager
def canvas(height: float, salt: str) -> Iterator[Figure]:
    """An empty figure; `salt` makes the identifiers in its SVG its own, and the same every time."""
    ink, muted, line = COLOURS["ink"], COLOURS["muted"], COLOURS["line"]
    settings: dict[Any, Any] = {
        "svg.hashsalt": salt,
        "svg.fonttype": "none",
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "text.color": ink,
        "axes.edgecolor": line,
        "axes.facecolor": "none",
        "axes.labelcolor": muted,
        "axes.titlecolor": ink,
        "axes.titlesize": 9.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "grid.color": line,
        "grid.linewidth": 0.6,
        "xtick.color": line,
        "xtick.labelcolor": muted,
        "ytick.color": line,
        "ytick.labelcolor": muted,
        "legend.frameon": False,
        "legend.labelcolor": ink,
        "figure.facecolor": COLOURS["surface"],
    }
    with mpl.rc_context(settings):
        yield Figure(figsize=(WIDTH, height), layout="constrained")


def save(figure: Figure, out: Path, name: str, describes: str) -> str:
    """Writes `name`.png to `out`; returns it as SVG; `describes` is its text for who sees none."""
    figure.savefig(out / f"{name}.png", dpi=150, metadata={"Software": None})
    buffer = io.StringIO()
    figure.patch.set_alpha(0)
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inline(buffer.getvalue(), describes)


def note(
    axes: Axes,
    words: str,
    place: tuple[float, float],
    offset: tuple[float, float],
    colour: str,
    frame: Transform | None = None,
    ha: str = "left",
    va: str = "bottom",
    size: float = 8,
    weight: str = "normal",
) -> Annotation:
    """Words beside a place: `offset` is in points, `frame` the coordinates of `place` if not those of the data."""
    return axes.annotate(
        words,
        place,
        offset,
        xycoords=frame or "data",
        textcoords="offset points",
        color=colour,
        ha=ha,
        va=va,
        fontsize=size,
        fontweight=weight,
    )


def colour_of(name: str) -> str:
    """A model's colour: by what it was made from."""
    base = name.partition("-")[0]
    return COLOURS[base if base in ("dense", "student") else "pruned"]


def spread(axes: Axes, values: Sequence[float], share: float = 0.12) -> None:
    """Limits of the y axis with room around `values`."""
    low, high = min(values), max(values)
    room = (high - low) * share or 0.01
    axes.set_ylim(low - room, high + room)


def _inline(svg: str, describes: str) -> str:
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    # Names that nothing refers to go: the other pictures of the page have the same ones.
    used = set(re.findall(r"#(\w+)", body))
    body = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", body)
    box = re.search(r'viewBox="[^"]*"', body)
    label = describes.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    head = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {box[0] if box else ""}'
    body = re.sub(r"<svg[^>]*>", f'{head} role="img" aria-label="{label}">', body, count=1)
    for name, colour in COLOURS.items():
        body = body.replace(colour, f"var(--{name})")
    return body
