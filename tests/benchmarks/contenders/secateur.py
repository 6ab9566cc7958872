"""Secateur: a point is a file in recipes/, a recipe that names only what differs from the quickstart.

Beside a recipe's own keys it has `chain`, what is done to the dense model, in order: `distill` (a student of it),
`prune` (all rounds of score, prune and finetune). What comes out is quantized by the first of `quantize.methods`. All
trainings together may take the budget's steps and no more.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from contenders.contender import Contender, Job, describe
from contenders.settings import RECIPES, STEPS, THREADS
from tasks.core.files import read_json, whole
from tasks.recipe.load import resolve
from tasks.recipe.schema import Recipe
from tasks.training.schedule import steps_of

METRIC = "accuracy"


def make(job: Job) -> None:
    """Follows the chain of a point's recipe through the product's own stages."""
    from tasks.distill import distill
    from tasks.finetune import finetune
    from tasks.prune import prune
    from tasks.quantize import quantize

    chain, recipe = read(text(job.point), job.steps, job.seed)
    spent = steps(chain, recipe, read_json(job.prepared / "data.json")["splits"]["train"]["rows"])
    if spent > job.steps:
        raise ValueError(f"{job.point} trains {spent} steps; the budget is {job.steps}: lower its epochs")
    model = job.dense
    for link in chain:
        if link == "distill":
            out = _fresh(job.scratch / "student")
            course = (recipe.distill, METRIC, job.seed, _fresh(job.scratch / "distill"), out)
            distill(model, None, job.prepared, job.teacher, *course)
            model = out
            continue
        for number in range(len(recipe.prune.goals)):
            cut, out = (_fresh(job.scratch / f"{name}{number}") for name in ("cut", "round"))
            scores = scored(model, recipe, job)
            prune(
                model, scores, job.prepared, job.teacher, number, recipe.score.criterion, recipe.prune, job.seed, cut,
                gradual=recipe.finetune.gradual, times=timed(recipe, job),
            )  # fmt: skip
            course = (recipe.finetune, METRIC, job.seed, _fresh(job.scratch / f"finetune{number}"), out)
            finetune(cut, job.dense, job.prepared, job.teacher, *course)
            model = out
    quantized, method = _fresh(job.scratch / "quantized"), recipe.quantize.methods[0]
    quantize(model, job.prepared, recipe.quantize, METRIC, job.seed, quantized)
    shutil.copytree(quantized / method, job.out, dirs_exist_ok=True)
    describe(job.out, "onnx", ["model.onnx"], steps=spent)


def scored(model: Path, recipe: Recipe, job: Job) -> Path:
    """The scores of a model, and its curves; those of the dense model are kept for all points that ask for the same."""
    from tasks.score import score_units
    from tasks.score.sensitivity import LEVELS, measure

    def make(out: Path) -> None:
        units, trial = recipe.prune.units, _fresh(job.scratch / "scoring")
        score_units(model, job.prepared, recipe.score, units, METRIC, job.seed, trial, out)
        if recipe.prune.curves:
            measure(model, job.prepared, recipe.prune, job.seed, out)

    asked = [recipe.score.model_dump(mode="json"), recipe.prune.units, recipe.prune.curves, LEVELS]
    return _once(model.parent / f"scores-{model.name}", asked, make)


def timed(recipe: Recipe, job: Job) -> Path | None:
    """The table of times, where a round hangs on it: to be measured with nothing else running, once for all seeds."""
    import torch

    from tasks.evaluate.table import measure_table

    def make(out: Path) -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(THREADS)
        measure_table(job.dense, job.prepared, recipe.prune.units, recipe.prune.align, recipe.evaluate, out)
        torch.set_num_threads(threads)

    asked = [recipe.prune.units, recipe.prune.align, recipe.evaluate.model_dump(mode="json")]
    return _once(job.prepared.with_name("times"), asked, make) if recipe.prune.timed else None


def _once(place: Path, asked: list[Any], make: Callable[[Path], None]) -> Path:
    """What `make` leaves, kept for all points that ask for the same."""
    key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:8]
    place = place.with_name(f"{place.name}-{key}")
    if not place.is_dir():
        with whole(place) as made:
            make(made)
    return place


def read(text: str, budget: int, seed: int) -> tuple[list[str], Recipe]:
    """The chain and the whole recipe of a point; its epochs are for the real budget, and shrink with a smaller one."""
    changes = yaml.safe_load(text)
    chain = changes.pop("chain")
    if set(chain) - {"distill", "prune"}:
        raise ValueError(f"chain: {chain}; may name distill, prune, or both in order, or nothing: quantized alone")
    settings = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    recipe = resolve(Path("quickstart"), [*settings, f"seed={seed}"])
    if recipe.prune.rewind:
        raise ValueError("prune.rewind: the dense model of the benchmark keeps no early weights")
    share = budget / STEPS
    trainings: dict[str, Any] = {"finetune": recipe.finetune, "distill": recipe.distill}
    trainings["score.training"] = recipe.score.training
    shorter = [f"{name}.epochs={training.epochs * share}" for name, training in trainings.items()]
    return chain, resolve(Path("quickstart"), [*settings, f"seed={seed}", *shorter])


def steps(chain: list[str], recipe: Recipe, rows: int) -> int:
    """Optimiser steps of all trainings of a chain, in batches of 32 rows."""
    rounds = len(recipe.prune.goals)
    parts = {"distill": [recipe.distill], "prune": [recipe.finetune] * rounds}
    if recipe.score.criterion in {"movement", "l0"}:
        parts["prune"] += [recipe.score.training] * rounds
    counts = [steps_of(rows, part.batch_size, part.epochs) for link in chain for part in parts[link]]
    if any(part.batch_size != 32 for link in chain for part in parts[link]):
        raise ValueError("batch_size must be 32, that of the budget's steps")
    return sum(counts)


def text(point: str) -> str:
    """The recipe file of a point."""
    return (RECIPES / f"{point}.yaml").read_text()


def _fresh(directory: Path) -> Path:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


CONTENDER = Contender(
    name="secateur",
    points=tuple(sorted(path.stem for path in RECIPES.glob("*.yaml"))),
    packages=("torch", "transformers", "onnxruntime"),
    settings="recipes in tests/benchmarks/contenders/recipes on top of the quickstart, its own stages, dynamic int8",
    make=make,
    own=True,
    recipe=text,
)
