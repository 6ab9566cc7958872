"""What the last run of a workspace reached; read from the files its stages left, so it is quick.

secateur status [--json]
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.workspace import PIPELINE
from tasks.core.files import read_json
from tasks.recipe.load import read
from tasks.recipe.outcome import outcome, round_number

NO_RUN = "no run yet; start one with: secateur run"
UNFINISHED = "the run has not come to its end; go on with: secateur run"
WIDTH = 100


def status(root: Path) -> dict[str, Any]:
    """The recipe's name, the figures of every model, the state of every round, and the budget.

    `budget` says whether it is met, by which model (`best`: the fastest that keeps the quality on validation), and each
    limit's check. Without a finished run `models` is empty, the budget is not met, and `note` says what to do.

    Raises:
        UserError: The recipe in params/pipeline.yaml is not a right one.
    """
    empty: dict[str, Any] = {"met": False, "best": None, "checks": []}
    if not (root / PIPELINE).is_file():
        return {"recipe": None, "models": {}, "rounds": {}, "budget": empty, "note": NO_RUN}
    recipe = read(root / PIPELINE)
    rounds = _rounds(root / "data" / "rounds")
    try:
        found = outcome(recipe.budget, root / "data" / "evaluate", root / "data" / "times")
    except FileNotFoundError:
        note = UNFINISHED if (root / "data" / "prepared").is_dir() else NO_RUN
        return {"recipe": recipe.name, "models": {}, "rounds": rounds, "budget": empty, "note": note}
    checks = [asdict(check) for check in found.checks.get(found.best or "", [])]
    return {
        "recipe": recipe.name,
        "metric": found.metric,
        "models": {name: {**facts, "keeps_quality": found.keeps_quality(name)} for name, facts in found.models.items()},
        "rounds": rounds,
        "budget": {"met": found.met, "best": found.best, "checks": checks},
        "note": None,
    }


def show(root: Path, as_json: bool = False) -> int:
    """Prints `status` as JSON or as a table; the exit status: 0 if the budget is met, 1 if not or there is no run."""
    facts = status(root)
    if as_json:
        print(json.dumps(facts, indent=2, sort_keys=True))
    else:
        _print(facts)
    return 0 if facts["budget"]["met"] else 1


def _rounds(directory: Path) -> dict[str, dict[str, Any]]:
    paths = sorted(directory.glob("[!.]*/verdict.json"), key=lambda path: round_number(path.parent.name))
    found = {path.parent.name: read_json(path) for path in paths}
    keys = ("state", "because", "quality", "drop", "parameters", "flops")
    return {name: {key: verdict.get(key) for key in keys} for name, verdict in found.items()}


def _print(facts: dict[str, Any]) -> None:
    terminal = sys.stdout.isatty()
    width = None if terminal else WIDTH
    console = Console(width=width, highlight=False, no_color=not terminal, legacy_windows=False)
    if console.width > WIDTH:
        console.width = WIDTH
    if facts["models"]:
        console.print(_table(facts, terminal))
        if not all(model["keeps_quality"] for model in facts["models"].values()):
            console.print("✗ loses more quality than the budget allows", style="dim" if terminal else "")
        console.print()
    for name, verdict in facts["rounds"].items():
        console.print(f"round {name}: {verdict['state']}, {verdict['because']}", markup=False, soft_wrap=True)
    if facts["note"]:
        console.print(facts["note"], markup=False)
        return
    budget = facts["budget"]
    best = f"the best is {budget['best']}" if budget["best"] else "no model keeps the quality"
    console.print(f"budget {'met' if budget['met'] else 'not met'}; {best}", style="bold" if terminal else "")
    for check in budget["checks"]:
        reached = "not measured" if check["reached"] is None else f"{check['reached']:.3f}"
        sign = "≤" if check["name"].startswith("max_") else "≥"
        mark = "ok" if check["met"] else "missed"
        console.print(f"  {check['name']:<14} {reached:>12}  {sign} {check['limit']:g}  {mark}", markup=False)


def _table(facts: dict[str, Any], terminal: bool) -> Table:
    """The models, fastest first, those that lose too much after all others; the best is marked."""
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold" if terminal else "")
    table.add_column("model", no_wrap=True)
    for name in (facts["metric"], "95 %", "params", "size", "ms b1", "rows/s b32", "× b1", "× b32"):
        table.add_column(name, justify="right", no_wrap=True)
    best = facts["budget"]["best"]
    models = sorted(facts["models"].values(), key=lambda model: (not model["keeps_quality"], -_speed(model)))
    for model in models:
        is_best = model["name"] == best
        table.add_row(
            f"{'→' if is_best else ' ' if model['keeps_quality'] else '✗'} {model['name']}",
            _figure(model["quality"], 3),
            f"{_figure(model['quality_low'], 3)}–{_figure(model['quality_high'], 3)}",
            f"{model['parameters'] / 1e6:.1f} M",
            f"{model['bytes'] / 1e6:.1f} MB",
            _figure(model["latency_ms_b1"], 2),
            _figure(model["throughput_b32"], 0),
            _figure(model["speedup_b1"], 2),
            _figure(model["speedup_b32"], 2),
            style="bold green" if is_best and terminal else "",
        )
    return table


def _speed(model: dict[str, Any]) -> float:
    return min(model["speedup_b1"] or 0.0, model["speedup_b32"] or 0.0)


def _figure(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"
