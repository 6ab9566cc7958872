"""What runs in the child of a worker: the pipeline's own stages, and the two that only a search has."""

import os

from tasks import stages
from tasks.recipe.job import Job

CHECKPOINTS = ("models/dense", "data/teacher", "data/prepared")


def judge(model: str, like: Job) -> Job:
    """Quality, size and operations of the checkpoint `model`."""
    return _job("judge", model, like)


def measure(model: str, like: Job) -> Job:
    """Its speed."""
    return _job("measure", model, like)


def _job(stage: str, model: str, like: Job) -> Job:
    key = model.replace("/", "-")
    return Job(
        stage=f"{stage}@{key}",
        recipe=like.recipe,
        root=like.root,
        deps=(model, *CHECKPOINTS, "tasks/evaluate"),
        outs=(f"data/{stage}/{key}",),
        params={"evaluate": like.recipe.evaluate.model_dump(mode="json"), "threads": like.recipe.threads},
    )


def run(job: Job) -> None:
    """Does the work of a stage of dvc.yaml, or of `judge` and `measure`."""
    group = job.stage.partition("@")[0]
    if group not in ("judge", "measure"):
        stages.run(job)
        return
    import torch

    from tasks.evaluate.candidate import judge_candidate, time_candidate

    threads = job.recipe.threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    model, dense, teacher, prepared = (job.dep(path) for path in (job.deps[0], *CHECKPOINTS))
    out, settings = job.out(job.outs[0]), job.recipe.evaluate
    job.start()
    try:
        if group == "judge":
            judge_candidate(model, dense, teacher, prepared, settings, job.recipe.task.metric, out)
        else:
            time_candidate(model, dense, prepared, settings, out)
        job.publish(f"{threads} threads")
    finally:
        job.discard()
