"""What runs in the child of a worker: the pipeline's own stages, and those that only a search has."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks import stages
from tasks.core.files import write_json
from tasks.recipe.job import Job

DENSE, TEACHER, PREPARED = CHECKPOINTS = ("models/dense", "data/teacher", "data/prepared")
MOMENTS, TABLE, TIMES = "moments", "table", "data/times/table"


def moments(like: Job) -> Job:
    """What every draft is refitted by."""
    prune, params = like.recipe.prune, {"seed": like.recipe.seed, "kinds": list(like.recipe.prune.units)}
    params |= {"rows": prune.rows, "batch_size": prune.batch_size, "damping": prune.damping}
    return _job(MOMENTS, f"data/{MOMENTS}", (DENSE, PREPARED, "tasks/prune", "tasks/reconstruct"), params, like)


def table(like: Job) -> Job:
    """What units cost in time; dvc.yaml has this stage only where a round hangs on it."""
    params = {**_timing(like), "kinds": list(like.recipe.prune.units), "align": like.recipe.prune.align}
    return _job(TABLE, TIMES, (DENSE, PREPARED, "tasks/allocate", "tasks/quantize", "tasks/evaluate"), params, like)


def draft(cut: Job) -> Job:
    """The work of a stage `prune`, but that what stays is refitted quickly, by the moments."""
    return replace(cut, stage=cut.stage.replace("prune", "draft"), deps=(*cut.deps, f"data/{MOMENTS}"))


def judge(model: str, like: Job, graph: str | None = None, *, by_table: bool = False, texts: int | None = None) -> Job:
    """Quality, size and operations of the checkpoint `model`, and what the table of times says of its speed.

    Args:
        graph: its quantized form; then quality and bytes are of this.
        texts: of validation, at most so many are asked; None: all.
    """
    known = (TIMES, "tasks/allocate") if by_table else ()
    judged = _of_candidate("judge", model, like, graph, known)
    return replace(judged, params={**judged.params, "texts": texts})


def measure(model: str, like: Job, graph: str | None = None) -> Job:
    """Its speed."""
    return _of_candidate("measure", model, like, graph)


def _of_candidate(name: str, model: str, like: Job, graph: str | None, known: tuple[str, ...] = ()) -> Job:
    key, graphs = (graph or model).replace("/", "-"), (graph,) if graph else ()
    deps = (model, *CHECKPOINTS, *graphs, *known, "tasks/evaluate")
    return replace(_job(f"{name}@{key}", f"data/{name}/{key}", deps, _timing(like), like), item={"graph": graph})


def _timing(like: Job) -> dict[str, Any]:
    return {"evaluate": like.recipe.evaluate.model_dump(mode="json"), "threads": like.recipe.threads}


def _job(stage: str, out: str, deps: tuple[str, ...], params: Mapping[str, Any], like: Job) -> Job:
    return Job(stage=stage, recipe=like.recipe, root=like.root, deps=deps, outs=(out,), params=params)


def run(job: Job) -> None:
    """Does the work of a stage of dvc.yaml, or of one above."""
    work = WORK.get(job.stage.partition("@")[0])
    if work is None:
        stages.run(job)
        return
    import torch

    threads = job.recipe.threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    job.start()
    try:
        work(job)
        job.publish(f"{threads} threads")
    finally:
        job.discard()


def _gather(job: Job) -> None:
    from tasks.prune.moments import gather

    gather(job.dep(DENSE), job.dep(PREPARED), job.recipe.prune, job.recipe.seed, job.out(job.outs[0]))


def _draft(job: Job) -> None:
    from tasks.reconstruct.apart import FILE

    stages.prune(job, job.dep(f"data/{MOMENTS}") / FILE)


def _judge(job: Job) -> None:
    from tasks.evaluate.candidate import judge_candidate

    model, dense, teacher, prepared = (job.dep(path) for path in (job.deps[0], *CHECKPOINTS))
    metric, out = job.recipe.task.metric, job.out(job.outs[0])
    texts = job.params["texts"]
    judge_candidate(model, dense, teacher, prepared, job.recipe.evaluate, metric, out, _graph(job), texts)
    if TIMES in job.deps:
        from tasks.evaluate.table import predict

        write_json(out / "times.json", predict(job.dep(TIMES), model))


def _measure(job: Job) -> None:
    from tasks.evaluate.candidate import time_candidate

    model, dense, prepared = (job.dep(path) for path in (job.deps[0], DENSE, PREPARED))
    time_candidate(model, dense, prepared, job.recipe.evaluate, job.out(job.outs[0]), _graph(job))


def _graph(job: Job) -> Path | None:
    return job.dep(job.item["graph"]) if job.item["graph"] else None


WORK: dict[str, Callable[[Job], None]] = {
    MOMENTS: _gather,
    "draft": _draft,
    "judge": _judge,
    "measure": _measure,
}
