"""The trainings of a run, end to end on one time axis: loss above, validation quality below."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from tasks.report.canvas import COLOURS, canvas, colour_of, note, save

MOST_TICKS = 30
"""With more epochs only the last of each training is named."""


def curves(trainings: Mapping[str, Mapping[str, Any]], metric: str, out: Path) -> str:
    """Draws training.png and returns the SVG; each training takes the width of its epochs."""
    with canvas(4.4, "training") as figure:
        loss, quality = figure.subplots(2, 1, sharex=True, height_ratios=(1.15, 1))
        start, ticks, total = 0.0, [], sum(map(_epochs, trainings.values()))
        for name, training in trainings.items():
            epochs = _epochs(training)
            _training(loss, quality, training, start, colour_of(name))
            place, frame = (start + epochs / 2, 1.0), loss.get_xaxis_transform()
            note(loss, name, place, (0, 4), colour_of(name), frame, ha="center", size=9, weight="bold")
            ends = [entry["epoch"] for entry in training["validation"]]
            ticks += [(start + end, f"{end:.3g}") for end in (ends[-1:] if total > MOST_TICKS else ends)]
            start += epochs
            for axes in (loss, quality):
                axes.axvline(start, color=COLOURS["line"], linewidth=1, zorder=0)
        for axes in (loss, quality):
            axes.grid(visible=True, axis="y")
            axes.margins(y=0.14)
        loss.tick_params(length=0)
        quality.set_xlim(0, max(start, 1))
        quality.set_xticks([place for place, _ in ticks], [words for _, words in ticks])
        quality.set_xlabel("epoch of each training")
        loss.set_ylabel("training loss")
        quality.set_ylabel(f"validation {metric.replace('_', ' ')}")
        figure.align_ylabels()
        return save(figure, out, "training", f"Training loss and validation {metric} of {', '.join(trainings)}")


def _epochs(training: Mapping[str, Any]) -> float:
    return float(training["validation"][-1]["epoch"])


def _training(loss: Axes, quality: Axes, training: Mapping[str, Any], start: float, colour: str) -> None:
    losses, scores = training["curve"], [entry["quality"] for entry in training["validation"]]
    places = [start + entry["epoch"] for entry in losses]
    loss.plot(places, [entry["loss"] for entry in losses], color=colour, linewidth=1.3)
    ends = [start + entry["epoch"] for entry in training["validation"]]
    quality.plot(ends, scores, "o-", color=colour, linewidth=1.3, markersize=4.5, clip_on=False)
    best = max(scores)
    note(quality, f"{best:.3f}", (ends[scores.index(best)], best), (-3, 4), COLOURS["muted"], ha="right")
