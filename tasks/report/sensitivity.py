"""What a model loses when one group alone keeps fewer units, where an allocation measured it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from tasks.report.canvas import COLOURS, canvas, note, save
from tasks.report.grid import NAMES
from tasks.report.reasons import by_score, layer_of, plans

FAINTEST = 0.3
"""Opacity of the first layer's curve; the last one's is 1."""


def sensitivity(cut: Path) -> list[dict[str, Any]]:
    """Of each round that measured it, the curve of every group: units kept, their share of the dense model's, loss.

    The loss is the mean over rows of KL(model || model with this group alone pruned), in nats; of causal models the
    rise of the mean loss. `limit` is the loss that each group of a kind was allowed to add, where that decided.
    """
    found = []
    for name, plan in plans(cut):
        if not plan["sensitivity"]:
            continue
        dense = {group["name"]: group["before"] for group in plan["groups"]}
        groups = []
        for group, losses in plan["sensitivity"].items():
            levels = sorted((int(kept), loss) for kept, loss in losses.items())
            kind = group.partition(".")[0]
            groups.append(
                {
                    "layer": layer_of(group, plan["layers"]),
                    "kind": kind,
                    "kept": [kept for kept, _ in levels],
                    "share": [kept / dense[group] for kept, _ in levels],
                    "loss": [loss for _, loss in levels],
                }
            )
        kinds = dict.fromkeys(group["kind"] for group in groups)
        losses_allowed = plan["allocation"] == "sensitivity"
        limit = {kind: plan["threshold"].get(kind) for kind in kinds if losses_allowed and not by_score(plan, kind)}
        groups.sort(key=lambda group: (list(NAMES).index(group["kind"]), group["layer"]))
        found.append({"round": name, "limit": limit, "groups": groups})
    return found


def sensitivity_picture(rounds: Sequence[Mapping[str, Any]], out: Path) -> str:
    """Draws sensitivity.png and returns the SVG: a row of panels for each round, a curve for each layer."""
    kinds = list(dict.fromkeys(group["kind"] for entry in rounds for group in entry["groups"]))
    with canvas(0.5 + 2.3 * len(rounds), "sensitivity") as figure:
        grid = figure.subplots(len(rounds), len(kinds), squeeze=False)
        for row, entry in zip(grid, rounds, strict=True):
            for axes, kind in zip(row, kinds, strict=True):
                _panel(axes, [group for group in entry["groups"] if group["kind"] == kind], entry["limit"].get(kind))
                axes.set_title(f"{NAMES[kind]}, {entry['round']}", pad=5)
            row[0].set_ylabel("loss added")
        for axes in grid[-1]:
            axes.set_xlabel("share of the dense model’s units kept")
        names = ", ".join(entry["round"] for entry in rounds)
        return save(figure, out, "sensitivity", f"Loss of each layer pruned alone by share kept, rounds {names}")


def _panel(axes: Axes, groups: Sequence[Mapping[str, Any]], limit: float | None) -> None:
    axes.grid(visible=True, axis="y")
    axes.set_xlim(-0.08, 1.02)
    last = max((group["layer"] for group in groups), default=0) or 1
    for group in groups:
        opacity = FAINTEST + (1 - FAINTEST) * group["layer"] / last
        axes.plot(
            group["share"], group["loss"], "o-", color=COLOURS["pruned"], alpha=opacity, linewidth=1.2, markersize=2.5
        )
        start = (group["share"][0], group["loss"][0])
        note(axes, str(group["layer"]), start, (-4, 0), COLOURS["muted"], ha="right", va="center", size=7)
    if limit is not None:
        axes.axhline(limit, color=COLOURS["bad"], linewidth=1, linestyle=(0, (4, 3)))
        frame_of = axes.get_yaxis_transform()
        note(axes, "allowed", (1, limit), (-1, 2), COLOURS["bad"], frame_of, ha="right", size=7.5)
