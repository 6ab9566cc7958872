"""The facts of a run, gathered from what its stages left; this is what report.json holds."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from tasks.core.files import read_json
from tasks.recipe.outcome import front, outcome, round_number
from tasks.recipe.schema import Recipe
from tasks.report.reasons import left
from tasks.report.words import verdict


def digest(recipe: Recipe, prepared: Path, rounds: Path, evaluated: Path, times: Path, models: Path) -> dict[str, Any]:
    """Models with their figures, budget, rounds, what was removed, training curves and data."""
    found = outcome(recipe.budget, evaluated, times)
    best = found.best or ""
    fastest = front(found.models, "latency_ms_b1", smaller=True)
    samples = evaluated / "test" / "samples.json"
    marked = [
        {
            **facts,
            "best": name == best,
            "front": name in fastest,
            "keeps_quality": found.keeps_quality(name),
            "checks": [asdict(check) for check in found.checks[name]],
        }
        for name, facts in found.models.items()
    ]
    checks = found.checks.get(best, [])
    return {
        "name": recipe.name,
        "task": recipe.task.model_dump(mode="json"),
        "criterion": recipe.score.criterion,
        "metric": found.metric,
        "rows": found.rows,
        "threads": found.threads,
        "best": found.best,
        "met": found.met,
        "budget": [asdict(check) for check in checks],
        "verdict": verdict(recipe.budget, found.metric, found.models.get(best), checks),
        "models": marked,
        "rounds": [read_json(path) for path in _rounds(rounds, "verdict.json")],
        "removed": left(models / "cut"),
        "training": curves(models),
        "samples": read_json(samples) if samples.is_file() else None,
        "data": read_json(prepared / "data.json"),
    }


def curves(models: Path) -> dict[str, Any]:
    """training.json of the dense model, of each round that trained, and of the student, in this order."""
    rounds = _rounds(models / "rounds", "training.json")
    paths = [models / "dense" / "training.json", *rounds, models / "student" / "training.json"]
    return {path.parent.name: read_json(path) for path in paths if path.is_file()}


def _rounds(directory: Path, file: str) -> list[Path]:
    return sorted(directory.glob(f"[!.]*/{file}"), key=lambda path: (round_number(path.parent.name), path))
