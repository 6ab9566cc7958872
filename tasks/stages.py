"""The stages of dvc.yaml as functions of a `Job`: which declared path goes into which argument, and nothing more.

Each imports what it needs when it runs, so that a stage costs only its own imports.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.rounds import ended, last_good, pass_through
from tasks.recipe.job import Job

if TYPE_CHECKING:
    from tasks.evaluate import Entry


def prepare(job: Job) -> None:
    """Fetch, clean, split and tokenise the data."""
    from tasks.prepare import prepare as work

    recipe = job.recipe
    work(recipe.data, recipe.task, recipe.model, recipe.seed, job.root, job.out("data/prepared"))


def train(job: Job) -> None:
    """Fine-tune the dense model; it is the teacher."""
    from tasks.sources import cache_dir, fetch
    from tasks.train import train_dense

    recipe = job.recipe
    train_dense(
        job.note(recipe.model.source, fetch(recipe.model.source, cache_dir(), job.root, "model")),
        job.dep("data/prepared"),
        recipe.train,
        recipe.task.metric,
        recipe.seed,
        job.scratch(),
        out=job.out("models/dense"),
        teacher=job.out("data/teacher"),
    )


def table(job: Job) -> None:
    """What units of each kind cost in time."""
    from tasks.evaluate.table import measure_table

    recipe, dense, prepared = job.recipe, job.dep("models/dense"), job.dep("data/prepared")
    measure_table(dense, prepared, recipe.prune.units, recipe.prune.align, recipe.evaluate, job.out("data/times/table"))


def score(job: Job) -> None:
    """Importance of every unit of the model that the round starts from."""
    from tasks.score import score_units
    from tasks.score.sensitivity import measure

    recipe, out = job.recipe, job.out(f"data/scores/{job.key}")
    if because := ended(job.dep(job.item["after"])):
        pass_through(out, because)
        return
    score_units(
        job.dep(job.item["model"]),
        job.dep("data/prepared"),
        recipe.score,
        recipe.prune.units,
        recipe.task.metric,
        recipe.seed,
        job.scratch(),
        out,
        compare=job.key == "r1",
    )
    if recipe.prune.curves:
        measure(job.dep(job.item["model"]), job.dep("data/prepared"), recipe.prune, recipe.seed, out)


def prune(job: Job, moments: Path | None = None) -> None:
    """Choose the units to remove and remove them; with `moments` as a draft."""
    from tasks.prune import prune as work

    scores, out = job.dep(f"data/scores/{job.key}"), job.out(f"models/cut/{job.key}")
    if because := ended(scores):
        pass_through(out, because)
        return
    recipe = job.recipe
    work(
        job.dep(job.item["model"]),
        scores,
        job.dep("data/prepared"),
        job.dep("data/teacher"),
        int(job.key[1:]) - 1,
        recipe.score.criterion,
        recipe.prune,
        recipe.seed,
        out,
        early=job.dep(job.item["early"]) if recipe.prune.rewind else None,
        gradual=recipe.finetune.gradual,
        moments=moments,
        times=job.dep(job.item["times"]),
    )


def finetune(job: Job) -> None:
    """Train what is left, with the dense model as teacher."""
    from tasks.finetune import finetune as work

    cut, out = job.dep(f"models/cut/{job.key}"), job.out(f"models/rounds/{job.key}")
    if because := ended(cut):
        pass_through(out, because)
        return
    recipe = job.recipe
    work(
        cut,
        job.dep("models/dense"),
        job.dep("data/prepared"),
        job.dep("data/teacher"),
        recipe.finetune,
        recipe.task.metric,
        recipe.seed,
        job.scratch(),
        out,
    )


def evaluate(job: Job) -> None:
    """Hold a round against the budget on validation, or compare every model on test."""
    from tasks.core.files import write_json
    from tasks.evaluate import evaluate_models, evaluate_round

    recipe, prepared = job.recipe, job.dep("data/prepared")
    out, times = job.out(job.item["out"]), job.out(f"data/times/{job.key}")
    if job.key == "test":
        good = last_good(job.dep("data/rounds"), _rounds(job))
        evaluate_models(
            _models(job, good), good, prepared, recipe.evaluate, recipe.task.metric, recipe.seed, job.root, out, times
        )
        return
    model = job.dep(job.item["models"])
    if because := ended(model):
        pass_through(times, because)
        write_json(out / "verdict.json", {"round": job.key, "state": "passed", "because": because})
        return
    evaluate_round(
        job.key,
        model,
        job.dep("models/dense"),
        job.dep("data/teacher"),
        prepared,
        recipe.budget,
        recipe.evaluate,
        recipe.task.metric,
        out,
        times,
    )


def distill(job: Job) -> None:
    """A student of the dense model."""
    from tasks.distill import distill as work
    from tasks.sources import cache_dir, fetch

    recipe, out = job.recipe, job.out("models/student")
    if not recipe.distill.enabled:
        pass_through(out, "distill.enabled is false")
        return
    source = recipe.distill.source
    work(
        job.dep("models/dense"),
        job.note(source, fetch(source, cache_dir(), job.root, "model")) if source else None,
        job.dep("data/prepared"),
        job.dep("data/teacher"),
        recipe.distill,
        recipe.task.metric,
        recipe.seed,
        job.scratch(),
        out,
    )


def quantize(job: Job) -> None:
    """ONNX graphs with fused attention, fp32 and int8."""
    from tasks.quantize import quantize as work

    model, out = job.dep(job.item["models"]), job.out(f"models/quantized/{job.key}")
    if job.key == "pruned":
        good = last_good(job.dep(job.item["reads"]), _rounds(job))
        if good is None:
            pass_through(out, "no round kept the quality that the budget asks for")
            return
        model = model / good
    recipe = job.recipe
    work(model, job.dep("data/prepared"), recipe.quantize, recipe.task.metric, recipe.seed, out)


def report(job: Job) -> None:
    """One self-contained page, and its pictures."""
    from tasks.report import report as work

    work(job.recipe, job.root, job.out("data/report"))


def _rounds(job: Job) -> list[str]:
    return [f"r{number + 1}" for number in range(len(job.recipe.prune.goals))]


def _models(job: Job, good: str | None) -> "dict[str, Entry]":
    """Every model of the run by name, the dense one first."""
    from tasks.evaluate import Entry

    root = job.dep("models")
    checkpoints = {"dense": root / "dense", **{name: root / "rounds" / name for name in _rounds(job)}}
    checkpoints["student"] = root / "student"
    stages = {"dense": "train", "student": "distill"}
    models = {
        name: Entry(stages.get(name, f"finetune@{name}"), directory, directory)
        for name, directory in checkpoints.items()
        if ended(directory) is None
    }
    for name in job.recipe.quantize.models:
        source = good if name == "pruned" else name
        if source is not None:
            for method in job.recipe.quantize.methods:
                directory = root / "quantized" / name / method
                models[f"{name}-{method}"] = Entry(f"quantize@{name}", directory, checkpoints[source])
    return models


STAGES: dict[str, Callable[[Job], None]] = {
    work.__name__: work for work in (prepare, train, table, score, prune, finetune, evaluate, distill, quantize, report)
}


def run(job: Job) -> None:
    """Does the work of `job.stage`; its outs are there whole, with provenance, or not at all."""
    import torch

    threads = job.recipe.threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    job.start()
    try:
        STAGES[job.stage.partition("@")[0]](job)
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else torch.backends.cpu.get_cpu_capability()
        job.publish(f"{device}, {threads} threads")
    finally:
        job.discard()
