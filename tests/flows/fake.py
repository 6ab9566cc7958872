"""Stages that take no time: each out says what it was made of, so equal inputs give equal bytes and others do not."""

import json
import os
import signal
import time
from pathlib import Path

from tasks.core.errors import UserError
from tasks.core.files import write_json
from tasks.core.progress import progress
from tasks.recipe.job import Job

VERDICTS = {"r1": "continue", "r2": "broken"}


def run(job: Job) -> None:
    """Stands in for `tasks.stages.run`; files in the workspace's `orders` directory tell a stage to misbehave."""
    _obey(job.root / "orders", job.stage)
    (job.root / "calls").mkdir(exist_ok=True)
    with (job.root / "calls" / "log").open("a") as file:
        file.write(f"{job.stage}\n")
    job.start()
    try:
        facts = {"stage": job.stage, "params": job.params, "inputs": job.inputs(), "code": job.code()}
        for out in job.outs:
            _fill(job, out, job.out(out), facts)
        job.publish(device="cpu")
    finally:
        job.discard()


def _obey(orders: Path, stage: str) -> None:
    print("chatter on stdout", flush=True)
    for done in range(3):
        progress("step", done + 1, 3)
    if (orders / "sleep").is_file():
        time.sleep(float((orders / "sleep").read_text()))
    if (orders / stage).is_file():
        _misbehave(orders / stage, (orders / stage).read_text())


def _misbehave(order: Path, word: str) -> None:
    if word == "mistake":
        raise UserError("the label column is not there; columns: text, stars")
    if word == "bug":
        raise RuntimeError("an index is off by one")
    if word == "full":
        raise OSError(28, "No space left on device", "data/prepared")
    if word == "killed once":
        order.unlink()
    if word in ("oom", "killed once"):
        os.kill(os.getpid(), signal.SIGKILL)
    (order.parent / "hanging").write_text(str(os.getpid()))
    if word == "eat":
        eaten = bytearray(600_000_000)
        eaten[::4096] = b"x" * len(eaten[::4096])  # what is not written to is not resident
    time.sleep(600)


def _fill(job: Job, out: str, where: Path, facts: dict[str, object]) -> None:
    write_json(where / "made_of.json", facts)
    if out.startswith("models/"):
        (where / "model.safetensors").write_bytes(json.dumps(facts, sort_keys=True).encode())
    if out == "models/dense":
        write_json(where / "training.json", [{"step": step, "loss": 1 / (step + 1)} for step in range(3)])
    if out.startswith("data/rounds/"):
        write_json(where / "verdict.json", {"state": VERDICTS.get(job.key, "continue")})
    if out == "data/evaluate/test":
        models = {"dense": ("models/dense", 0.8), "pruned": ("models/rounds/r1", 0.79)}
        found = {name: {"path": path, "accuracy": value} for name, (path, value) in models.items()}
        write_json(where / "quality.json", {"metric": "accuracy", "models": found})
    if out == "data/prepared":
        split = {"rows": 50, "classes": {"rotten": 20, "fresh": 30}}
        splits = {"train": split, "validation": split, "test": split}
        source = {"uri": job.recipe.data.source, "rows": 150}
        write_json(
            where / "data.json",
            {"source": source, "splits": splits, "dropped": {}, "overlap": {"train/test": 0}},
        )
