"""Labels keep off one another and the points."""

import itertools
from typing import Any

import pytest
from matplotlib.text import Annotation

from tasks.report.canvas import canvas
from tasks.report.labels import Point, label


def boxes(points: list[Point], **options: Any) -> list[Any]:
    with canvas(5.0, "test") as figure:
        axes = figure.add_subplot()
        axes.set_xlim(0, 10)
        axes.set_ylim(0, 10)
        figure.draw_without_rendering()
        label(axes, points, options.get("texts", []), options.get("lines", []))
        names = [child for child in axes.get_children() if isinstance(child, Annotation) and child.get_text()]
        return [name.get_window_extent() for name in names]


@pytest.mark.parametrize("gap", [0.0, 0.05, 0.2, 1.0])
def test_labels_of_a_crowd_do_not_overlap(gap: float) -> None:
    points = [Point(5 + gap * (i % 3), 5 + gap * (i // 3), f"model-{i}-dynamic", "#000000") for i in range(9)]
    found = boxes(points)
    assert len(found) == 9
    assert not any(one.overlaps(other) for one, other in itertools.combinations(found, 2))


def test_a_label_stays_in_the_frame_and_off_the_line() -> None:
    [box] = boxes([Point(10, 5, "at the edge", "#000000")], lines=[[(0, 5), (10, 5)]])
    [free] = boxes([Point(10, 5, "at the edge", "#000000")])
    assert box.x1 <= free.x1 + 60
    assert box.y0 != free.y0
