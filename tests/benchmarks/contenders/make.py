"""Makes one artefact and measures its quality: `python -m contenders.make CONTENDER POINT SEED STEPS`.

It runs in the environment of its contender.
"""

import json
import shutil
import sys
import time
from importlib.metadata import version
from pathlib import Path

from contenders.contender import Job, facts_of, size
from contenders.opening import open_artefact
from contenders.registry import CONTENDERS
from contenders.settings import THREADS, home, prepared
from tasks.core.files import tree_hash, whole
from tasks.modeling.inference import logits
from tasks.text.data import read_split

LINE = "line.json"


def main(name: str, point: str, seed: int, steps: int) -> None:
    """Leaves the artefact, with the line of the raw figures in it."""
    contender, root = CONTENDERS[name], home(steps) / f"seed{seed}"
    scratch = root / "scratch" / f"{name}-{point}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    with whole(place(name, point, seed, steps)) as out:
        start = time.perf_counter()
        contender.make(Job(root / "dense", root / "teacher", prepared(steps), point, steps, seed, scratch, out))
        seconds = time.perf_counter() - start
        facts = facts_of(out)
        line = {
            "contender": name,
            "point": point,
            "seed": seed,
            "budget": steps,
            **facts,
            "quality": quality(out, prepared(steps)),
            "bytes": size(out),
            "seconds": round(seconds, 1),
            "packages": {package: version(package) for package in contender.packages},
            "recipe": contender.recipe(point),
            "hash": tree_hash(out)[:16],
        }
        (out / LINE).write_text(json.dumps(line) + "\n")
    shutil.rmtree(scratch)


def place(name: str, point: str, seed: int, steps: int) -> Path:
    """Where an artefact is."""
    return home(steps) / f"seed{seed}" / "artefacts" / f"{name}-{point}"


def quality(directory: Path, rows: Path) -> dict[str, float]:
    """Accuracy on validation and test."""
    run, found = open_artefact(directory, THREADS), {}
    for name in ("validation", "test"):
        split = read_split(rows, name, directory)
        found[name] = float((logits(run, split, 64).argmax(-1) == split.labels).mean())
    return found


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
