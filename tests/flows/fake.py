"""Stages that take no time: each out says what it was made of, so equal inputs give equal bytes and others do not."""

import contextlib
import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.errors import UserError
from tasks.core.files import write_json
from tasks.core.progress import progress
from tasks.prepare.read import read
from tasks.prepare.rows import clean
from tasks.prepare.split import arrange
from tasks.recipe.job import Job

SPLITS = ("train", "validation", "test")
FIGURES = {"drop": 0.0, "validation_drop": 0.0, "parameters": 1000, "flops": 1000, "bytes": 4000, "quality": 0.8}
BOUNDS = {"quality_low": 0.7, "quality_high": 0.9}
MODELS: dict[str, dict[str, Any]] = {
    "dense": {"path": "models/dense", "accuracy": 0.8, **FIGURES, **BOUNDS},
    "pruned": {"path": "models/rounds/r1", "accuracy": 0.79, **FIGURES, **BOUNDS, "flops": 500},
}
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
    if word == "leak":
        raise RuntimeError(f"http://me:planted-in-address@host is away, {os.environ['HF_TOKEN']} is no good")
    if word == "full":
        raise OSError(28, "No space left on device", "data/prepared")
    if word == "killed once":
        order.unlink()
    if word.startswith("fill "):
        order.unlink()
        fill(Path(word.removeprefix("fill ")))
        return
    if word in ("oom", "killed once"):
        os.kill(os.getpid(), signal.SIGKILL)
    (order.parent / "hanging").write_text(str(os.getpid()))
    if word == "eat":
        eaten = bytearray(600_000_000)
        eaten[::4096] = b"x" * len(eaten[::4096])  # what is not written to is not resident
    time.sleep(600)


def fill(directory: Path) -> None:
    """Takes what room the file system of a directory has."""
    with (directory / "filler").open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            with contextlib.suppress(OSError):
                while file.write(b"\0" * size):
                    pass


def _fill(job: Job, out: str, where: Path, facts: dict[str, object]) -> None:
    write_json(where / "made_of.json", facts)
    if out.startswith("models/"):
        (where / "model.safetensors").write_bytes(json.dumps(facts, sort_keys=True).encode())
    if out == "models/dense":
        write_json(where / "training.json", [{"step": step, "loss": 1 / (step + 1)} for step in range(3)])
    if out.startswith("data/rounds/"):
        write_json(where / "verdict.json", {"state": VERDICTS.get(job.key, "continue")})
    if out == "data/evaluate/test":
        write_json(where / "quality.json", {"metric": "accuracy", "rows": 50, "models": MODELS})
    if out == "data/times/test":
        times = {"latency_ms_b1": 1.0, "throughput_b32": 100.0, "speedup_b1": 9.0, "speedup_b32": 9.0}
        write_json(where / "times.json", {"threads": 1, "models": dict.fromkeys(MODELS, times)})
    if out == "data/times/table":
        write_json(where / "table.json", {"whole": [time.time(), 1.0]})  # no clock says the same twice
    if out == "data/prepared":
        _prepared(job, where)


def _prepared(job: Job, where: Path) -> None:
    """Facts of 50 rows a split; of a table of the workspace its own, and its texts and labels."""
    split: dict[str, Any] = {"rows": 50, "classes": {"rotten": 20, "fresh": 30}}
    facts: dict[str, Any] = {"labels": ["rotten", "fresh"], "splits": dict.fromkeys(SPLITS, split)}
    source, data = job.root / job.recipe.data.source, job.recipe.data
    if source.is_file():
        given = clean(read(source, data), data)
        for name, rows in arrange(given.splits, data, 0, given.dropped).items():
            table = {"text": [row.text for row in rows], "label": [row.label for row in rows]}
            pq.write_table(pa.table(table), where / f"{name}.parquet")
            counts = Counter(given.classes[row.classes[0]] for row in rows)
            facts["splits"][name] = {"rows": len(rows), "classes": dict(counts)}
        facts["labels"] = given.classes
    origin = {"uri": job.recipe.data.source, "rows": 150}
    write_json(where / "data.json", {**facts, "source": origin, "dropped": {}, "overlap": {"train/test": 0}})
