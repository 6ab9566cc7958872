"""The stages of dvc.yaml as functions of a `Job`: which declared path goes into which argument, and nothing more.

Each imports what it needs when it runs, so that a stage costs only its own imports.
"""

from collections.abc import Callable

from tasks.recipe.job import Job


def prepare(job: Job) -> None:
    """Fetch, clean, split and tokenise the data."""
    from tasks.prepare import prepare as work

    work(job.recipe.data, job.recipe.task, job.recipe.model, job.recipe.seed, job.root, job.out("data/prepared"))


STAGES: dict[str, Callable[[Job], None]] = {f.__name__: f for f in (prepare,)}


def run(job: Job) -> None:
    """Does the work of `job.stage`; its outs are there whole, with provenance, or not at all."""
    job.start()
    try:
        STAGES[job.stage.partition("@")[0]](job)
        job.publish(device="cpu")
    finally:
        job.discard()
