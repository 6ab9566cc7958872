"""What the pipeline costs beside its work: wall time of `secateur run` over that of the same functions called bare.

    python tests/benchmarks/overhead.py                # on a quiet machine, an hour; goes on where it stopped
    python tests/benchmarks/overhead.py --set data.limit=200 --only quickstart    # to try it out; nothing is kept
    python tests/benchmarks/overhead.py --table

Runs and bare ones take turns, each in an empty clone of what is committed. Bare: one process that has everything
imported before its clock starts calls the functions of tasks/stages.py in their order, one after another. What the run
adds is in its stages (a process and its imports for each), or before, between and after them (Prefect, MLflow, DVC).
Raw figures: tests/benchmarks/results/overhead.jsonl.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import raw
from loop import workspace

RESULTS = raw.RESULTS / "overhead.jsonl"
RUNS = {"quickstart": [], "longer": ["train.epochs=2", "finetune.epochs=1", "distill.epochs=1.5"]}
"""Settings on top of the quickstart: itself, and one that takes more than ten minutes."""
BARS = {"quickstart": 1.25, "longer": 1.05}
REPEATS = 2
BARE = """
import json, os, sys, time
from pathlib import Path
root, settings = Path.cwd(), json.loads(sys.argv[1])
from flows.child import environment, keep_heap
from flows.workspace import PIPELINE, write
from tasks.recipe.load import dump, resolve
recipe = resolve(Path("quickstart"), settings)
os.environ.update(environment(recipe))
write(root / PIPELINE, dump(recipe))
import torch, transformers, onnx, onnxruntime.quantization, onnxruntime.transformers.optimizer, accelerate, sklearn
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from flows.dag import Dag
from tasks import distill, evaluate, finetune, prepare, prune, quantize, report, score, stages, train
keep_heap()
dag = Dag(root)
for stage in dag.stages:
    start = time.perf_counter()
    stages.run(dag.job(stage.name))
    print(json.dumps([stage.name, time.perf_counter() - start]), flush=True)
"""


def main() -> None:
    """Runs what is not there yet and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only print what is there")
    parser.add_argument("--only", choices=RUNS, help="this run alone")
    parser.add_argument("--set", action="append", default=[], help="a setting for both; the figures are only printed")
    args = parser.parse_args()
    if not args.table:
        done = {(line["run"], line["repeat"]) for line in raw.lines(RESULTS)}
        for repeat in range(1 if args.set else REPEATS):
            for name in [args.only] if args.only else RUNS:
                if args.set:
                    print(json.dumps(measure(name, [*RUNS[name], *args.set])))
                elif (name, repeat) not in done:
                    raw.add(RESULTS, {"run": name, "repeat": repeat, **measure(name, RUNS[name])})
    if not args.set:
        print(table(raw.lines(RESULTS)))


def measure(name: str, settings: list[str]) -> dict[str, Any]:
    """Wall seconds of the run, when each of its steps began and ended in it, and the seconds of each bare function."""
    root = empty(f"overhead-{name}")
    command = [sys.executable, "-m", "flows.cli", "run", "quickstart"]
    command += [word for setting in settings for word in ("--set", setting)]
    start, spans = time.perf_counter(), []
    with subprocess.Popen(command, cwd=root, env=environment(root), stdout=subprocess.PIPE) as run:
        line, began = b"", 0.0
        while said := os.read(run.stdout.fileno(), 1):  # a step's name comes before it, "done in …" after it
            line += said
            if line.endswith(" … ".encode()):
                began = time.perf_counter() - start
            elif said == b"\n":
                if " … " in (text := line.decode()):
                    spans.append([text.split(" … ")[0], began, time.perf_counter() - start])
                line = b""
    wall = time.perf_counter() - start
    if run.returncode not in (0, 1):  # 1: the budget was not met
        sys.exit(run.returncode)
    root = empty(f"overhead-{name}")
    command = [sys.executable, "-c", BARE, json.dumps(settings)]
    said = subprocess.run(command, cwd=root, env=environment(root), stdout=subprocess.PIPE, text=True, check=True)
    bare = dict(json.loads(line) for line in said.stdout.splitlines() if line.startswith("["))
    shutil.rmtree(root)
    return {"wall": wall, "spans": spans, "bare": bare}


def empty(name: str) -> Path:
    """A fresh clone, the one before removed."""
    shutil.rmtree(Path(".secateur/benchmarks", name), ignore_errors=True)
    return workspace(name)


def environment(root: Path) -> dict[str, str]:
    """Of both: the code is that of the clone."""
    return {**os.environ, "PYTHONPATH": str(root)}


def table(found: list[dict]) -> str:
    """Ratios and where the difference goes, medians, as Markdown."""
    out = ["| run | `secateur run`, s | bare, s | ratio | bar | before, between and after stages, s | in stages, s |"]
    out.append("|---|---|---|---|---|---|---|")
    for name, bar in BARS.items():
        rows = []
        for line in (line for line in found if line["run"] == name):
            stages = [(end - begin, line["bare"][step]) for step, begin, end in line["spans"] if step in line["bare"]]
            bare, inside = sum(line["bare"].values()), sum(spent for spent, _ in stages)
            rows.append((line["wall"], bare, line["wall"] / bare, line["wall"] - inside, inside - bare))
        if rows:
            wall, bare, ratio, outside, inside = (statistics.median(column) for column in zip(*rows, strict=True))
            cells = f"{wall:.0f} | {bare:.0f} | {ratio:.3f} | {bar} | {outside:.1f} | {inside:.1f}"
            out.append(f"| {name} | {cells} |")
    return "\n".join(out)


if __name__ == "__main__":
    main()
