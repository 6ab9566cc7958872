"""Each objective of a search against each setting that is a number; of one setting alone that is its curve."""

from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from textwrap import fill
from typing import Any

from tasks.report.canvas import COLOURS, canvas, save

FAINT = 0.35


def numeric(facts: Mapping[str, Any]) -> list[str]:
    """The settings of the space that took more than one value, all of them numbers."""
    found = []
    for key in facts["space"]:
        values = {str(one): one for trial in facts["trials"] if (one := trial["settings"].get(key)) is not None}
        if len(values) > 1 and all(isinstance(one, Real) and not isinstance(one, bool) for one in values.values()):
            found.append(key)
    return found


def slices(facts: Mapping[str, Any], shares: Mapping[str, str], words: Mapping[str, str], out: Path) -> str:
    """Draws slices.png and returns the SVG: a column for each setting, a row for each objective.

    Args:
        facts: As of `report.json`; of its settings at least one is `numeric`.
        shares: The figure of each objective.
        words: What each objective is called.
        out: An existing directory.
    """
    settings, objectives = numeric(facts), facts["objectives"]
    with canvas(2.1 * len(objectives) + 0.4, "search-slices") as figure:
        rows = figure.subplots(len(objectives), len(settings), squeeze=False, sharex="col", sharey="row")
        for objective, row in zip(objectives, rows, strict=True):
            for key, axes in zip(settings, row, strict=True):
                known = [one for one in facts["trials"] if one["figures"].get(shares[objective]) is not None]
                known = [one for one in known if one["settings"].get(key) is not None]  # null may be a choice
                known.sort(key=lambda one: one["settings"][key])
                for trial in known:
                    axes.scatter(
                        trial["settings"][key],
                        trial["figures"][shares[objective]],
                        s=16,
                        color=COLOURS["pruned" if trial["number"] in facts["front"] else "dense"],
                        alpha=1.0 if trial["level"] == facts["levels"][-1] else FAINT,
                        linewidths=0,
                    )
                if len(facts["space"]) == 1:
                    at = [(trial["settings"][key], trial["figures"][shares[objective]]) for trial in known]
                    axes.plot(*zip(*at, strict=True), color=COLOURS["pruned"], linewidth=1.2)
                if key in facts["log"]:
                    axes.set_xscale("log")
                axes.grid(True)
                axes.label_outer()
            row[0].set_ylabel(fill(words[objective], 28))
        for key, axes in zip(settings, rows[-1], strict=True):
            axes.set_xlabel(key)
        return save(figure, out, "slices", f"{' and '.join(objectives)} by {', '.join(settings)}")
