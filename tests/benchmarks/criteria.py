"""One-shot structured pruning of MiniLM on Rotten Tomatoes: every criterion, with and without refitting, on test.

    python tests/benchmarks/criteria.py            # hours on two cores; goes on where it stopped
    python tests/benchmarks/criteria.py --seed 1   # only this seed, so that several can run beside each other
    python tests/benchmarks/criteria.py --table    # the table of what is there

Three seeds of the dense model (the quickstart's settings, two epochs). A level is the share of the dense model's FLOPs
that goes. Raw figures go to tests/benchmarks/results/criteria.jsonl, a line a run; models to .secateur/benchmarks.
"""

import argparse
import functools
import json
import os
import shutil
import statistics
import time
from itertools import chain, product
from pathlib import Path

import raw
import torch

from tasks.allocate.levels import CURVES
from tasks.finetune import finetune
from tasks.modeling.checkpoint import load
from tasks.modeling.inference import forward, logits
from tasks.modeling.size import size
from tasks.prepare import prepare
from tasks.prune import prune
from tasks.recipe.load import resolve
from tasks.score import CRITERIA, score_units
from tasks.score.sensitivity import measure
from tasks.sources import cache_dir, fetch
from tasks.text.data import read_split
from tasks.train import train_dense

ROOT = Path(".secateur/benchmarks/criteria")
RESULTS = raw.RESULTS / "criteria.jsonl"
SEEDS, LEVELS = (0, 1, 2), (0.3, 0.5, 0.7)
SCORED, REFITTED = 512, 256
"""Training rows that criteria look at, and refitting."""
BEST = ("obs", "solve", (0.25, 0.5, 0.67))
"""Criterion, allocation and levels of what is recommended; chosen on validation."""
BEST_ROWS = 2048
"""Rows that its refitting looks at."""
BOTH = (True, False)
NAMES = sorted([*CRITERIA, "movement"])
"""L0 is not among them: its penalty or target says how much goes, see xlnet.py."""
Key = tuple[int, str, str, bool, float, bool]


def main() -> None:
    """Runs what is not there yet and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only print what is there")
    parser.add_argument("--seed", type=int, choices=SEEDS, action="append", help="only of these seeds")
    args = parser.parse_args()
    if not args.table:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0)))))
        done = {key(line) for line in raw.lines(RESULTS)}
        for run in plan():
            if run not in done and run[0] in (args.seed or SEEDS):
                record(run)
    print(table(raw.lines(RESULTS)))


def plan() -> list[Key]:
    """(seed, criterion, allocation, refitted, level, recovered) of every run, what matters most first."""
    best = [(seed, *BEST[:2], True, level, False) for seed in SEEDS for level in BEST[2]]
    recovered = [(0, criterion, "global", True, 0.5, True) for criterion in NAMES]
    one, *more = (
        [(seed, name, "global", again, level, False) for level, again, name in product(LEVELS, BOTH, NAMES)]
        for seed in SEEDS
    )
    return best + one + recovered + [*chain(*more)]


def record(run: Key) -> None:
    """Prunes, measures on validation and test, and adds a line to the raw figures."""
    seed, criterion, allocation, again, level, recovered = run
    recipe = resolve(
        Path("quickstart"),
        [
            "train.epochs=2",
            f"seed={seed}",
            f"prune.rounds=[{{flops: {level}}}]",
            f"prune.allocation={allocation}",
            f"prune.reconstruct={json.dumps(again)}",
            f"prune.rows={BEST_ROWS if allocation == BEST[1] else REFITTED}",
            f"score.criterion={criterion}",
            f"score.rows={SCORED}",
            "score.training.epochs=1",
            "finetune.epochs=1",
        ],
    )
    prepared, dense, teacher = data(recipe), ROOT / f"dense{seed}", ROOT / f"teacher{seed}"
    if not dense.is_dir():
        made, source = ROOT / f"partial{seed}", fetch(recipe.model.source, cache_dir(), Path(), "model")
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        teacher.mkdir(exist_ok=True)
        train_dense(source, prepared, recipe.train, "accuracy", seed, ROOT / f"scratch{seed}", made, teacher)
        made.rename(dense)
    scores = ROOT / f"scores{seed}-{criterion}"
    if not scores.is_dir():
        made = ROOT / f"scoring{seed}"
        shutil.rmtree(made, ignore_errors=True)
        (made / "out").mkdir(parents=True)
        score_units(dense, prepared, recipe.score, recipe.prune.kinds, "accuracy", seed, made, made / "out")
        (made / "out").rename(scores)
    if recipe.prune.curves and not (scores / CURVES).is_file():
        measure(dense, prepared, recipe.prune, seed, scores)
    cut = ROOT / f"cut{seed}"
    shutil.rmtree(cut, ignore_errors=True)
    cut.mkdir()
    start = time.process_time()
    prune(dense, scores, prepared, teacher, 0, criterion, recipe.prune, seed, cut)
    seconds = time.process_time() - start
    if recovered:
        out = ROOT / f"recovered{seed}"
        for path in (out, ROOT / f"recovery{seed}"):
            shutil.rmtree(path, ignore_errors=True)
        out.mkdir()
        finetune(cut, dense, prepared, teacher, recipe.finetune, "accuracy", seed, ROOT / f"recovery{seed}", out)
        cut = out
    splits = ("validation", "test") if allocation == BEST[1] else ("test",)
    line = {
        "seed": seed,
        "criterion": criterion,
        "allocation": allocation,
        "reconstruct": again,
        "level": level,
        "recovered": recovered,
        "prune_seconds": seconds,
        "dense": of_dense(dense, prepared, splits),
        "pruned": accuracies(cut, prepared, splits),
        "flops_left": size(load(cut), 27)["flops"] / size(load(dense), 27)["flops"],
    }
    raw.add(RESULTS, line)


def data(recipe) -> Path:
    """The prepared data, made once."""
    out = ROOT / "prepared"
    if not out.is_dir():
        made = ROOT / "preparing"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        prepare(recipe.data, recipe.task, recipe.model, 0, Path(), made)
        made.rename(out)
    return out


def accuracies(model: Path, prepared: Path, splits: tuple[str, ...]) -> dict[str, float]:
    """By split."""
    run, found = forward(load(model)), {}
    for name in splits:
        split = read_split(prepared, name)
        found[name] = float((logits(run, split, 64).argmax(-1) == split.labels).mean())
    return found


@functools.cache
def of_dense(model: Path, prepared: Path, splits: tuple[str, ...]) -> dict[str, float]:
    """`accuracies` of a model that does not change."""
    return accuracies(model, prepared, splits)


def key(line: dict) -> Key:
    """Which run a line is of."""
    return tuple(line[name] for name in ("seed", "criterion", "allocation", "reconstruct", "level", "recovered"))


def table(found: list[dict]) -> str:
    """Points of test accuracy lost, means over seeds, as Markdown: of what is recommended, then of all criteria."""
    best = [line for line in found if line["allocation"] == BEST[1]]
    return "\n\n".join(_table(part) for part in (best, [line for line in found if line not in best]) if part)


def _table(found: list[dict]) -> str:
    groups: dict[str, dict[tuple, list[float]]] = {}
    for line in found:
        lost = 100 * (line["dense"]["test"] - line["pruned"]["test"])
        *_, again, level, recovered = key(line)
        column = (recovered, level, again and not recovered)  # whatever is trained after it, each tool as it does
        groups.setdefault(line["criterion"], {}).setdefault(column, []).append(lost)
    columns = sorted({column for row in groups.values() for column in row})
    names = [f"{level:.0%}{', refitted' if a else ''}{', an epoch' if r else ''}" for r, level, a in columns]
    out = ["| FLOPs removed | " + " | ".join(names) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, cells in sorted(groups.items(), key=lambda item: statistics.mean(chain(*item[1].values()))):
        means = {column: statistics.mean(values) for column, values in cells.items()}
        seeds = {c: "" if len(v) == len(SEEDS) or c[0] else f" ({len(v)})" for c, v in cells.items()}
        values = [f"{means[column]:.1f}{seeds[column]}" if column in cells else "" for column in columns]
        out.append(f"| `{name}` | " + " | ".join(values) + " |")
    return "\n".join(out)


if __name__ == "__main__":
    main()
