"""The Pareto picture: test accuracy against speed-up, a front for each contender, at both batch sizes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from contenders.fronts import Point, front

LOWEST = 0.08
"""Drop of accuracy at which the picture ends."""


def draw(fronts: Sequence[Mapping[str, list[Point]]], ours: str, dense: float, path: Path) -> None:
    """Writes a PNG.

    Args:
        fronts: at batch 1 and at batch 32.
        dense: test accuracy of the dense model; 1 and 2 points below it are marked.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    figure = Figure(figsize=(12, 5.5), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, sets, title in zip(panels, fronts, ("batch 1", "batch 32"), strict=True):
        for number, (name, points) in enumerate(sets.items()):
            colour, line = "black" if name == ours else f"C{number}", front(points)
            wide = 2.6 if name == ours else 1.2
            panel.plot([p.speed for p in line], [p.quality for p in line], color=colour, linewidth=wide, label=name)
            panel.scatter([p.speed for p in points], [p.quality for p in points], color=colour, s=14 * wide)
        for drop in (0.0, 0.01, 0.02):
            panel.axhline(dense - drop, color="grey", linewidth=0.6, linestyle=":")
            panel.annotate(f"dense −{100 * drop:.0f}" if drop else "dense", (1, dense - drop), fontsize=7, color="grey")
        panel.set_xscale("log")
        panel.set_xticks([0.5, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32])
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_xlabel("times as fast as dense PyTorch fp32")
        panel.set_title(title)
    panels[0].set_ylim(bottom=max(panels[0].get_ylim()[0], dense - LOWEST))
    panels[0].set_ylabel("accuracy on test, mean of the seeds")
    panels[1].legend(fontsize=8, loc="lower left")
    FigureCanvasAgg(figure).print_png(path)
