"""Makes every artefact that is not there yet, each in a process of its own, and keeps their raw figures."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contenders.base import CHOSEN
from contenders.contender import Contender
from contenders.make import LINE, place
from contenders.registry import CONTENDERS
from contenders.settings import home, results

BENCH = Path(".venv-bench/bin/python")
FILE = "contenders.jsonl"


def make_all(seeds: Sequence[int], only: Sequence[str], steps: int) -> None:
    """Every point of the contenders named (all, if none is), seed by seed; a failure is a line too, and tried again."""
    chosen = [c for c in CONTENDERS.values() if not only or any(name.split(":")[0] == c.name for name in only)]
    missing = [
        (seed, contender, point)
        for seed in seeds
        for contender in chosen
        for point in contender.points
        if wanted(contender, point, only) and not done(contender, point, seed, steps)
    ]
    for number, (seed, contender, point) in enumerate(missing):
        print(f"{number + 1} of {len(missing)}: {contender.name} {point}, seed {seed}", flush=True)
        if not (home(steps) / f"seed{seed}" / "dense" / CHOSEN).is_file():
            call(["contenders.base", str(seed), str(steps)], own=True, check=True)
        ended = call(["contenders.make", contender.name, point, str(seed), str(steps)], own=contender.own)
        file = place(contender.name, point, seed, steps) / LINE
        if ended.returncode == 0:
            line = json.loads(file.read_text())
            print(f"  validation {line['quality']['validation']:.4f}, {line['seconds']:.0f} s", flush=True)
        else:
            log = place(contender.name, point, seed, steps).with_suffix(".log")
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(ended.stderr)
            line = {"contender": contender.name, "point": point, "seed": seed, "budget": steps}
            line["error"] = error(ended.stderr) or f"exit status {ended.returncode}"
            print(f"  failed: {line['error']}; see {log}", flush=True)
        keep(line, results(steps) / FILE)


def wanted(contender: Contender, point: str, only: Sequence[str]) -> bool:
    """Whether `only` names the contender, or this point of it as `name:point`."""
    return not only or contender.name in only or f"{contender.name}:{point}" in only


def done(contender: Contender, point: str, seed: int, steps: int) -> bool:
    """Whether the artefact is there, made by the same recipe."""
    file = place(contender.name, point, seed, steps) / LINE
    return file.is_file() and json.loads(file.read_text())["recipe"] == contender.recipe(point)


def error(said: str) -> str:
    """The last line of a traceback: the exception and its words, or nothing where there is none."""
    raised = re.findall(r"^[A-Za-z_][\w.]*(?:Error|Exception|Interrupt)\b.*", said, re.MULTILINE)
    return raised[-1][:300] if raised else ""


def keep(line: dict[str, Any], file: Path) -> None:
    """Adds a line to the raw figures; an older one of the same artefact goes."""
    same = ("contender", "point", "seed")
    rest = [other for other in lines(file) if any(other[key] != line[key] for key in same)]
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text("".join(json.dumps(other) + "\n" for other in [*rest, line]))
    partial.replace(file)


def lines(file: Path) -> list[dict[str, Any]]:
    """What a file of raw figures holds."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def call(
    command: Sequence[str], *, own: bool, check: bool = False, capture: bool = False
) -> "subprocess.CompletedProcess[str]":
    """Runs a module of the benchmark in the product's environment or in that of the contenders.

    Args:
        check: a failure ends the benchmark too.
        capture: what it prints is kept, not shown.
    """
    if not own and not BENCH.is_file():
        sys.exit(f"there is no {BENCH}; make bench-env makes it")
    python = sys.executable if own else str(BENCH)
    paths = os.pathsep.join([str(Path.cwd()), str(Path(__file__).parents[1])])
    env = {**os.environ, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    out = subprocess.PIPE if capture else None
    started = [python, "-m", *command]
    ended = subprocess.run(started, env=env, stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    if check and ended.returncode:
        sys.exit("\n".join(ended.stderr.splitlines()[-15:]))
    return ended
