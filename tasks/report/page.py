"""From the facts of a run to report.html, its pictures, report.json and explanation.json."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tasks.core.files import write_json
from tasks.recipe.schema import Recipe
from tasks.report import words
from tasks.report.agreement import agreement_picture
from tasks.report.canvas import COLOURS
from tasks.report.card import write_cards
from tasks.report.changed import SHOWN, excerpts
from tasks.report.curves import curves
from tasks.report.digest import digest
from tasks.report.explanation import explanation
from tasks.report.lineage import lineage
from tasks.report.removed import removed, short, zeros
from tasks.report.scores import mass_picture, scores
from tasks.report.sensitivity import sensitivity_picture
from tasks.report.tradeoff import tradeoff
from tasks.report.verified import with_texts


def report(recipe: Recipe, root: Path, out: Path) -> None:
    """Writes report.html, report.json, explanation.json (why), the pictures as PNG, and a card for every model.

    Args:
        recipe: Its name, budget and prune settings are shown.
        root: The workspace; read are data/prepared, data/scores, data/rounds, data/evaluate, data/times and models.
        out: An existing directory.
    """
    data, models = root / "data", root / "models"
    prepared, scored, rounds = data / "prepared", data / "scores", data / "rounds"
    evaluated, times = data / "evaluate", data / "times"
    facts = digest(recipe, prepared, rounds, evaluated, times, models)
    facts["lineage"] = lineage([prepared, scored, rounds, evaluated, times, models])
    write_json(out / "report.json", facts)
    why = explanation(recipe, facts, data, models)
    write_json(out / "explanation.json", why)
    write_cards(recipe, facts, root, out / "cards")
    first = (why["changed"] or {"examples": []})["examples"][:SHOWN]
    environment = Environment(
        loader=PackageLoader("tasks.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": words.number,
        "signed": words.signed,
        "scaled": words.scaled,
        "milliseconds": words.milliseconds,
        "figure": words.figure,
        "answer": words.answer,
        "short": short,
        "title_of": words.title,
        "limit_of": words.limit,
        "reached_of": words.reached,
    }
    page = environment.get_template("report.html").render(
        facts=facts,
        why=why,
        shown=list(zip(first, excerpts(prepared, [entry["index"] for entry in first]), strict=True)) if first else [],
        verified=with_texts(why["verified"], prepared),
        dense=next(model for model in facts["models"] if model["name"] == "dense"),
        best=next((model for model in facts["models"] if model["best"]), None),
        pictures={name: Markup(svg) for name, svg in _pictures(recipe, facts, why, scored, models, out).items()},  # noqa: S704
        colours=COLOURS,
        slowest=max((model.get("latency_ms_b1") or 0.0 for model in facts["models"]), default=0.0),
    )
    (out / "report.html").write_text(page, encoding="utf-8")


def _pictures(
    recipe: Recipe, facts: dict[str, Any], why: dict[str, Any], scored: Path, models: Path, out: Path
) -> dict[str, str]:
    """Name and SVG of every picture that there is something to draw for."""
    drawn = {}
    dense = next(model for model in facts["models"] if model["name"] == "dense")
    floor = None if recipe.budget.max_drop is None else dense["quality"] - recipe.budget.max_drop
    for name, cost, axis in (
        ("pareto", "latency_ms_b1", "milliseconds per text, median, one text at a time (log scale)"),
        ("throughput", "throughput_b32", "texts per second in batches of 32 (log scale)"),
    ):
        if any(model.get(cost) is not None for model in facts["models"]):
            drawn[name] = tradeoff(facts, cost, axis, floor, out, name)
    if any(entry["layers"] for entry in facts["removed"]):
        drawn["removed"] = removed(facts["removed"], out)
        drawn |= _named("scores", scores(scored, models / "cut", recipe.prune.normalize, out))
    thinned = [entry for entry in why["removed"] if entry["weights"]]
    if thinned:
        drawn["zeros"] = zeros(thinned, out)
    if why["importance"]:
        drawn["importance"] = mass_picture(why["importance"], out)
    if why["sensitivity"]:
        drawn["sensitivity"] = sensitivity_picture(why["sensitivity"], out)
    if why["agreement"]:
        drawn |= _named("agreement", agreement_picture(why["agreement"], out))
    if facts["training"]:
        drawn["training"] = curves(facts["training"], facts["metric"], out)
    return drawn


def _named(name: str, picture: str | None) -> dict[str, str]:
    return {name: picture} if picture else {}
