"""Stages of a search that take no time: what a trial is worth follows from its settings by a formula."""

import os
import signal
import time
from pathlib import Path

from tasks.core.errors import UserError
from tasks.core.files import write_json
from tasks.core.rounds import VERDICT
from tasks.recipe.job import Job
from tasks.recipe.schema import Recipe

DENSE = 0.9


def worth(recipe: Recipe, trained: float) -> dict[str, float]:
    """More removed: cheaper and worse; `taylor` better than `random`; training gives back part of what was lost."""
    share = float(recipe.prune.goals[-1].kinds["neuron"].share or 0)
    lost = share**2 * (0.3 if recipe.score.criterion == "taylor" else 0.6) / (1 + trained)
    figures = {"quality": DENSE - lost, "drop": lost, "flops_share": 1 - share, "parameters_share": 1 - share / 2}
    return {**figures, "parameters": 1000 * figures["parameters_share"], "flops": 1000 * figures["flops_share"]}


def run(job: Job) -> None:
    """Each out says what made it, after what the files in the directory of orders ask for.

    `hang`: the first training that sees it waits to be killed; `kill`: the first draft is killed; `sleep`: all take so
    many seconds; `mistake`: the data are no good.
    """
    orders = Path(os.environ["SEARCH_ORDERS"])
    group, _, key = job.stage.partition("@")
    with (orders / "calls").open("a") as log:
        log.write(f"{job.stage} {job.root}\n")
    if group == "finetune" and (orders / "hang").is_file():
        (orders / "hang").rename(orders / "hanging")
        time.sleep(600)
    if group == "prepare" and (orders / "mistake").is_file():
        raise UserError("the data have no column stars")
    if group == "draft" and (orders / "kill").is_file():
        (orders / "kill").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    if (orders / "sleep").is_file():
        time.sleep(float((orders / "sleep").read_text()))
    job.start()
    try:
        for out in job.outs:
            where = job.out(out)
            if out.startswith("models/"):
                (where / "model.safetensors").write_text(f"{job.inputs()} {dict(job.params)}")
            if out == "data/rounds/" + key or group == "judge":
                level = job.recipe.finetune.epochs if "cut" not in key else 0
                facts = {"round": key, "state": "continue", "because": "", **worth(job.recipe, level)}
                write_json(where / VERDICT, facts)
        job.publish("cpu")
    finally:
        job.discard()
