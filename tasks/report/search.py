"""The page of a search: where its trials lie, which of them are best, which settings matter."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tasks.report.canvas import COLOURS, canvas, note, save
from tasks.report.slices import FAINT, numeric, slices

WORDS = {
    "quality": "quality on validation",
    "latency": "time at batch 1, of dense PyTorch fp32 (log scale)",
    "flops": "share of the dense model’s FLOPs",
    "size": "share of the dense model’s parameters",
}
SHARES = {"latency": "latency_share", "flops": "flops_share", "size": "parameters_share", "quality": "quality"}


def search_report(facts: Mapping[str, Any], out: Path) -> None:
    """Writes report.html, self-contained, and its pictures as PNG.

    Args:
        facts: As `report.json` has them: the objectives, the trials with their figures and settings, `front`, `best`,
            `knee` as numbers of trials, `importances` by objective, `space` the settings, `log` those on a log scale.
        out: An existing directory.
    """
    pictures = {}
    first, *others = facts["objectives"]
    for other in others:
        pictures[f"{first}-{other}"] = _front(facts, first, other, out)
    if facts["importances"]:
        pictures["importances"] = _importances(facts["importances"], out)
    if numeric(facts):
        names = WORDS | {"quality": f"{facts['metric']} on validation"}
        pictures["slices"] = slices(facts, SHARES, names, out)
    environment = Environment(
        loader=PackageLoader("tasks.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    marked = {number: name for name in ("knee", "best") if (number := facts[name]) is not None}
    page = environment.get_template("search.html").render(
        facts=facts,
        pictures={name: Markup(svg) for name, svg in pictures.items()},  # noqa: S704
        colours=COLOURS,
        shares=SHARES,
        marked=marked,
        trials=sorted(facts["trials"], key=lambda trial: (trial["number"] not in facts["front"], trial["number"])),
    )
    (out / "report.html").write_text(page, encoding="utf-8")


def _front(facts: Mapping[str, Any], upright: str, cost: str, out: Path) -> str:
    """Trials by two objectives: those of the front joined, those that were stopped earlier faint."""
    known = [trial for trial in facts["trials"] if trial["figures"].get(SHARES[cost]) is not None]
    ahead = [trial for trial in known if trial["number"] in facts["front"]]
    with canvas(4.2, f"search-{upright}-{cost}") as figure:
        axes = figure.subplots()
        for trial in known:
            is_last = trial["level"] == facts["levels"][-1]
            axes.scatter(
                trial["figures"][SHARES[cost]],
                trial["figures"][SHARES[upright]],
                s=26 if is_last else 14,
                color=COLOURS["pruned" if trial in ahead else "dense"],
                alpha=1.0 if is_last else FAINT,
                linewidths=0,
            )
        ahead.sort(key=lambda trial: trial["figures"][SHARES[cost]])
        at = [(trial["figures"][SHARES[cost]], trial["figures"][SHARES[upright]]) for trial in ahead]
        axes.plot(*zip(*at, strict=True) if at else ([], []), color=COLOURS["pruned"], linewidth=1.2)
        for trial, place in zip(ahead, at, strict=True):
            marks = [mark for mark in ("best", "knee") if facts[mark] == trial["number"]]
            note(axes, " ".join([str(trial["number"]), *marks]), place, (5, 4), COLOURS["ink"])
        if cost == "latency" and known:
            axes.set_xscale("log")
        axes.set_xlabel(WORDS[cost])
        axes.set_ylabel(facts["metric"] + " on validation" if upright == "quality" else WORDS[upright])
        axes.grid(True)
        return save(figure, out, f"{upright}-{cost}", f"{len(known)} trials by {upright} and {cost}; the front joined")


def _importances(shares: Mapping[str, Mapping[str, float]], out: Path) -> str:
    """A panel for each objective, a bar for each setting."""
    count = max(map(len, shares.values()))
    with canvas(0.9 + 0.28 * count, "search-importances") as figure:
        for axes, (objective, found) in zip(
            figure.subplots(1, len(shares), squeeze=False)[0], shares.items(), strict=True
        ):
            names = sorted(found, key=lambda name: found[name])
            axes.barh(names, [found[name] for name in names], color=COLOURS["pruned"], height=0.6)
            axes.set_title(objective)
            axes.set_xlabel("share of importance")
            axes.set_xlim(0, 1)
        return save(figure, out, "importances", "how much each setting matters for each objective")
