"""How the importance of units spreads within each layer, against the threshold, and how much each layer holds."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from safetensors import safe_open

from tasks.recipe.outcome import round_number
from tasks.report.canvas import COLOURS, canvas, note, save
from tasks.report.grid import NAMES, frame, panels, row_height, shade
from tasks.report.reasons import by_score, compared, layer_of, plans

FEW = 40
"""Up to so many units of a layer each gets a dot."""
LOWEST = 1e-9
"""Of the highest score: where lower ones are drawn."""
MOST_TICKS = 14


def mass(scored: Path, cut: Path) -> list[dict[str, Any]]:
    """Of each round that was scored, by kind: each layer's sum of scores, and its share of the kind's sum.

    Reads one tensor at a time. A share is None where a kind scores nothing at all.
    """
    known, found = dict(plans(cut)), []
    paths = {path.parent.name: path for path in scored.glob("[!.]*/scores.safetensors")}
    for name in sorted(paths, key=round_number):
        sums: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
        with safe_open(paths[name], "numpy") as file:
            for key in file.keys():  # noqa: SIM118
                layer = layer_of(key, known[name]["layers"] if name in known else None)
                sums[key.partition(".")[0]][layer] += float(file.get_tensor(key).sum(dtype=np.float64))
        kinds = {}
        for kind in sorted(sums, key=list(NAMES).index):
            total = sum(sums[kind].values())
            shares = [
                {"layer": n, "sum": s, "share": s / total if total else None} for n, s in sorted(sums[kind].items())
            ]
            kinds[kind] = shares
        found.append({"round": name, "kinds": kinds})
    return found


def mass_picture(rounds: Sequence[Mapping[str, Any]], out: Path) -> str:
    """Draws importance.png and returns the SVG: for each round a row for each layer and a column for each kind."""
    rows = sorted({entry["layer"] for scored in rounds for kind in scored["kinds"].values() for entry in kind})
    across = 2
    with canvas((0.95 + row_height(len(rows)) * len(rows)) * -(-len(rounds) // across), "importance") as figure:
        for axes, scored in zip(panels(figure, len(rounds), across), rounds, strict=True):
            kinds = [kind for kind in scored["kinds"] if kind != "width"]
            for column, kind in enumerate(kinds):
                known = [entry for entry in scored["kinds"][kind] if entry["share"] is not None]
                most = max((entry["share"] for entry in known), default=1.0) or 1.0
                for entry in known:
                    row = rows.index(entry["layer"])
                    shade(axes, column, row, max(entry["share"] / most, 0.0))
                    axes.text(column, row, f"{100 * entry['share']:.1f} %", fontsize=8, ha="center", va="center")
            frame(axes, [NAMES[kind].replace(" ", "\n", 1) for kind in kinds], [str(row) for row in rows])
            axes.tick_params(axis="x", labelsize=7)
            axes.set_ylabel("layer")
            axes.set_title(scored["round"], pad=8)
        names = ", ".join(scored["round"] for scored in rounds)
        return save(
            figure, out, "importance", f"Share of the importance of a kind that each layer holds, rounds {names}"
        )


def scores(directory: Path, cut: Path, normalized: bool, out: Path) -> str | None:
    """Draws scores.png and returns the SVG: a row of panels for each round; None where no round has both files.

    Scores are drawn as the rule compares them: divided by what the plan divided them by.

    Args:
        directory: data/scores.
        cut: models/cut.
        normalized: the plans divided each layer's scores by their L2 norm.
    """
    found = {name: plan for name, plan in plans(cut) if (directory / name / "scores.safetensors").is_file()}
    kinds = list(dict.fromkeys(group["kind"] for plan in found.values() for group in plan["groups"]))
    if not kinds:
        return None
    with canvas(0.5 + 1.9 * len(found), "scores") as figure:
        grid = figure.subplots(len(found), len(kinds), squeeze=False)
        for row, (name, plan) in zip(grid, found.items(), strict=True):
            vectors = _vectors(directory / name, plan)
            for axes, kind in zip(row, kinds, strict=True):
                _panel(axes, kind, vectors, plan)
                axes.set_title(f"{NAMES.get(kind, kind)}, {name}", pad=5)
            row[0].set_ylabel(compared(plan, normalized))
        for axes in grid[-1]:
            axes.set_xlabel("layer")
        return save(figure, out, "scores", f"Scores of units by layer in rounds {', '.join(found)}")


def _vectors(directory: Path, plan: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
    with safe_open(directory / "scores.safetensors", "numpy") as file:
        return {group["name"]: file.get_tensor(group["name"]).astype(np.float64) for group in plan["groups"]}


def _panel(axes: Axes, kind: str, vectors: Mapping[str, NDArray[np.float64]], plan: Mapping[str, Any]) -> None:
    axes.set_yscale("log")
    axes.grid(visible=True, axis="y")
    groups = [group for group in plan["groups"] if group["kind"] == kind]
    values = [vectors[group["name"]] / group["divisor"] for group in groups]
    floor = LOWEST * max((float(each.max()) for each in values if len(each)), default=1.0) or LOWEST
    for group, each in zip(groups, values, strict=True):
        gone = set(group["removed"])
        stays = [unit not in gone for unit in sorted([*group["kept"], *group["removed"]])]
        _layer(axes, group["layer"], np.maximum(each, floor), np.array(stays, bool))
    threshold = plan["threshold"].get(kind)
    if threshold and by_score(plan, kind):
        axes.axhline(threshold, color=COLOURS["bad"], linewidth=1, linestyle=(0, (4, 3)))
        frame_of = axes.get_yaxis_transform()
        note(axes, "kept above", (1, threshold), (-1, 2), COLOURS["bad"], frame_of, ha="right", size=7.5)
    layers = [group["layer"] for group in groups]
    last = max(layers, default=0)
    ticks = layers[:: -(-len(layers) // MOST_TICKS) or 1]
    axes.set_xticks(ticks, ["all" if kind == "width" else str(layer) for layer in ticks])
    axes.set_xlim(-0.5, 1.16 * last + 0.7)


def _layer(axes: Axes, layer: int, values: NDArray[np.float64], stays: NDArray[np.bool_]) -> None:
    """Dots for a few units, open where they go; for many the middle half as a bar, 1 to 99 % as a line, the median."""
    colour, gone = COLOURS["pruned"], COLOURS["bad"]
    if len(values) <= FEW:
        kept, lost = values[stays], values[~stays]
        axes.plot([layer] * len(kept), kept, "o", color=colour, markersize=4, alpha=0.65, markeredgewidth=0)
        axes.plot(
            [layer] * len(lost), lost, "o", color=gone, markersize=3.6, markerfacecolor="none", markeredgewidth=0.9
        )
        return
    low, first, middle, third, high = np.percentile(values, [1, 25, 50, 75, 99])
    axes.vlines(layer, low, high, color=colour, linewidth=1, alpha=0.6)
    axes.vlines(layer, first, third, color=colour, linewidth=6, alpha=0.55)
    axes.plot(layer, middle, "o", color=COLOURS["surface"], markersize=3.5, zorder=3)
