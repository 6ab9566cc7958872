"""Quality against speed, for every model of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from tasks.recipe.outcome import front
from tasks.report.canvas import COLOURS, canvas, colour_of, note, save, spread
from tasks.report.labels import Point, label

MARKERS = {"pytorch": "o", "fp32": "s", "dynamic": "D", "static": "^", "int8_weights": "v", "int4_weights": "P"}
FORMATS = {
    "pytorch": "PyTorch fp32",
    "fp32": "ONNX fp32",
    "dynamic": "ONNX int8, dynamic",
    "static": "ONNX int8, static",
    "int8_weights": "ONNX, weights int8",
    "int4_weights": "ONNX, weights int4",
}


def tradeoff(facts: Mapping[str, Any], cost: str, axis: str, floor: float | None, out: Path, name: str) -> str:
    """Draws `name`.png and returns the SVG.

    Args:
        facts: The digest.
        cost: Figure of a model on the x axis: `latency_ms_b1` (small is good) or `throughput_b32` (great is good).
        axis: Title of the x axis.
        floor: The quality that the budget asks for.
    """
    models = {model["name"]: model for model in facts["models"] if model.get(cost) is not None}
    best = front(models, cost, smaller=cost.startswith("latency"))
    with canvas(5.2, name) as figure:
        axes = figure.add_subplot()
        axes.set_xscale("log")
        axes.grid(visible=True)
        for model in models.values():
            _point(axes, model, cost)
        ends = [y for model in models.values() if _barred(model) for _, y in _bar(model, cost)]
        spread(axes, [model["quality"] for model in models.values()] + ends, 0.05)
        _room(axes, [model[cost] for model in models.values()])
        texts = [] if floor is None else [_floor(axes, floor, left=not cost.startswith("latency"))]
        axes.set_xlabel(axis)
        axes.set_ylabel(f"{facts['metric'].replace('_', ' ')} on test")
        _legend(axes, [_format(model) for model in models.values()])
        points = [
            Point(model[cost], model["quality"], model["name"], colour_of(model["name"]), bold=model["best"])
            for model in models.values()
        ]
        figure.draw_without_rendering()
        bars = [_bar(model, cost) for model in models.values() if _barred(model)]
        label(axes, points, texts, [_front(axes, [models[each] for each in best], cost), *bars])
        return save(
            figure, out, name, f"{facts['metric']} of {len(models)} models against {axis}; front: {', '.join(best)}"
        )


def _point(axes: Axes, model: Mapping[str, Any], cost: str) -> None:
    colour = colour_of(model["name"])
    if _barred(model):
        axes.plot(*zip(*_bar(model, cost), strict=True), color=colour, linewidth=1.4, alpha=0.4, zorder=1)
    hollow = model["format"] == "pytorch"
    axes.plot(
        model[cost],
        model["quality"],
        MARKERS[_format(model)],
        color=colour,
        markersize=9 if model["best"] else 6.5,
        markerfacecolor=COLOURS["surface"] if hollow else colour,
        markeredgewidth=1.5,
        zorder=3,
    )


def _front(axes: Axes, models: Sequence[Mapping[str, Any]], cost: str) -> list[tuple[float, float]]:
    """Draws the front as steps and returns their corners."""
    corners: list[tuple[float, float]] = []
    for model in models:
        if corners:
            corners.append((model[cost], corners[-1][1]))
        corners.append((model[cost], model["quality"]))
    axes.plot(*zip(*corners, strict=True), color=COLOURS["muted"], linewidth=1, alpha=0.7, zorder=2)
    return corners


def _bar(model: Mapping[str, Any], cost: str) -> list[tuple[float, float]]:
    return [(model[cost], model["quality_low"]), (model[cost], model["quality_high"])]


def _barred(model: Mapping[str, Any]) -> bool:
    """The intervals of the best model and of dense are drawn; those of all would hide the rest."""
    return bool(model["best"]) or model["name"] == "dense"


def _floor(axes: Axes, floor: float, *, left: bool) -> Annotation:
    low, high = axes.get_ylim()
    if floor < low:
        axes.set_ylim(floor - (high - low) * 0.06, high)
    axes.axhline(floor, color=COLOURS["bad"], linewidth=1, linestyle=(0, (4, 3)), alpha=0.8, zorder=1)
    side, offset = ("left", (3, 3)) if left else ("right", (-2, 3))
    words, frame = "quality the budget asks for", axes.get_yaxis_transform()
    return note(axes, words, (0 if left else 1, floor), offset, COLOURS["bad"], frame, ha=side)


def _room(axes: Axes, costs: Sequence[float]) -> None:
    low, high = min(costs), max(costs)
    room = (high / low) ** 0.09 if high > low else 1.5
    axes.set_xlim(low / room, high * room)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7), numticks=20))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _legend(axes: Axes, formats: Sequence[str]) -> None:
    """Above the axes: colours say what a model was made from, shapes in which format it is."""
    colours = [
        Line2D([], [], linewidth=5, solid_capstyle="butt", color=COLOURS[key], label=words)
        for key, words in (("dense", "from dense"), ("pruned", "pruned"), ("student", "student"))
    ]
    shapes = []
    for key, shape in MARKERS.items():
        face = COLOURS["surface" if key == "pytorch" else "muted"]
        if key in formats:
            style = {"color": COLOURS["muted"], "markerfacecolor": face, "markersize": 6, "linestyle": "none"}
            shapes.append(Line2D([], [], marker=shape, label=FORMATS[key], **style))  # type: ignore[arg-type]
    every = colours + shapes
    axes.legend(
        handles=every,
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        ncols=len(every),
        fontsize=8,
        handlelength=1.1,
        handletextpad=0.6,
        columnspacing=1.4,
    )


def _format(model: Mapping[str, Any]) -> str:
    """Key in `MARKERS`: the quantizer's name, or pytorch."""
    method = str(model["name"]).partition("-")[2]
    return method if method in MARKERS else "pytorch" if model["format"] == "pytorch" else "fp32"
