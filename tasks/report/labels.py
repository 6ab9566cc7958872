"""Labels of points in a picture, where they cover neither one another nor a point."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from tasks.report.canvas import COLOURS, note

DIRECTIONS = (0, 180, 90, 270, 35, 145, 325, 215, 60, 120, 300, 240)
DISTANCES = (9, 14, 21, 30, 42, 56, 72)
LEADER_FROM = 20
"""Points of distance from which a thin line leads to the label."""


Line = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Point:
    """A marker with a name."""

    x: float
    y: float
    name: str
    colour: str
    bold: bool = False


def label(axes: Axes, points: Sequence[Point], texts: Sequence[Text], lines: Sequence[Line]) -> None:
    """Names `points`: each label takes the nearest free place around its point, the most crowded point first.

    Labels keep off one another, the points, the `texts` and the lines through the corners in `lines`.
    """
    figure = axes.figure
    canvas = FigureCanvasAgg(figure)  # type: ignore[arg-type]
    canvas.draw()  # type: ignore[no-untyped-call]
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    unit = figure.dpi / 72
    spots = [tuple(map(float, axes.transData.transform((point.x, point.y)))) for point in points]
    corners = [[tuple(map(float, axes.transData.transform(corner))) for corner in line] for line in lines]
    taken = [
        *(Bbox.from_bounds(x - 5 * unit, y - 5 * unit, 10 * unit, 10 * unit) for x, y in spots),
        *(text.get_window_extent(renderer) for text in texts),
        *(_around(one, other, unit) for line in corners for one, other in itertools.pairwise(line)),
    ]
    frame = axes.get_window_extent()

    def crowd(index: int) -> float:
        return sum(math.dist(spots[index], spot) for spot in spots)

    for index in sorted(range(len(points)), key=crowd):
        point, (x, y) = points[index], spots[index]
        weight = "bold" if point.bold else "normal"
        text = note(axes, point.name, (point.x, point.y), (0, 0), point.colour, ha="center", va="center", weight=weight)
        shape = text.get_window_extent(renderer)
        half = (shape.width / 2 / unit, shape.height / 2 / unit)
        costs: list[tuple[int, int, int, float, float, Bbox]] = []
        for distance, angle in itertools.product(DISTANCES, DIRECTIONS):
            dx, dy = _offset(angle, distance, half)
            corner = (x + dx * unit - shape.width / 2, y + dy * unit - shape.height / 2)
            box = Bbox.from_bounds(*corner, shape.width, shape.height)
            outside = shape.width * shape.height - _overlap(box, frame)
            hits = sum(_overlap(box, other) for other in taken)
            costs.append((round(hits + outside), distance, len(costs), dx, dy, box))
        _, distance, _, dx, dy, box = min(costs)
        text.set_position((dx, dy))
        taken.append(box.padded(1.5 * unit))
        if distance >= LEADER_FROM:
            _lead(axes, point, (dx, dy), half)


def _around(one: Sequence[float], other: Sequence[float], unit: float) -> Bbox:
    low = (min(one[0], other[0]), min(one[1], other[1]))
    high = (max(one[0], other[0]), max(one[1], other[1]))
    return Bbox([low, high]).padded(2 * unit)


def _offset(angle: float, distance: float, half: tuple[float, float]) -> tuple[float, float]:
    """Of the label's centre from the point, so that its edge is `distance` away."""
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return cosine * (distance + half[0]), sine * (distance + half[1])


def _lead(axes: Axes, point: Point, offset: tuple[float, float], half: tuple[float, float]) -> None:
    nearest = (
        max(offset[0] - half[0], min(0.0, offset[0] + half[0])),
        max(offset[1] - half[1], min(0.0, offset[1] + half[1])),
    )
    line = {"arrowstyle": "-", "color": COLOURS["muted"], "linewidth": 0.5, "shrinkA": 0, "shrinkB": 4}
    axes.annotate("", (point.x, point.y), nearest, textcoords="offset points", arrowprops=line)


def _overlap(one: Bbox, other: Bbox) -> float:
    width = float(min(one.x1, other.x1) - max(one.x0, other.x0))
    height = float(min(one.y1, other.y1) - max(one.y0, other.y0))
    return max(0.0, width) * max(0.0, height)
