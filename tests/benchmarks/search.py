"""What a search costs, and what it finds: against one run of the quickstart, and against full trials drawn at random.

    python tests/benchmarks/search.py                     # hours on a quiet machine; goes on where it stopped
    python tests/benchmarks/search.py --only cost         # or front, workers, lambda, "front search 0"
    python tests/benchmarks/search.py --table

Each worker has one thread, so two of them may run at a time, in two clones.

- cost: wall time of `secateur run quickstart`, of 20 trials of its space and of 200 drafts, each in an empty clone.
- front: for three seeds the hypervolume, quality against latency on validation, after 20 trials of a search, of those
  that were made to the end; and of 20 full trials drawn at random; of one round, so that it takes hours and not a day.
  It is the area between a front and a corner: the quality that the budget keeps and the slowest of both, or the worst
  quality of both. What the model that a search chooses loses against dense is shown on test too.
- workers: drafts an hour of one worker and of two, on a core each, in turns in one search that has all they share.
- lambda: seven trials of the penalty on gates (L0) of heads and neurons, what is shut goes, nothing is trained after.

Raw figures: tests/benchmarks/results/search.jsonl.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import raw
from criteria import accuracies
from loop import read, workspace

RESULTS = raw.RESULTS / "search.jsonl"
SEEDS, TRIALS, DRAFTS, TURN = (0, 1, 2), 20, 200, 40
ONE_SHOT = ["search.levels=[0]"]
AT_RANDOM = ["search.sampler=random", "search.levels=[1]"]
MAX_DROP = 0.02
WHOLE_FRONT = f"budget={{max_drop: {MAX_DROP}, speedup_b1: null, speedup_b32: null, max_flops: null}}"
ONE_ROUND = [
    WHOLE_FRONT, "prune.rounds=[0.6]",
    "search.space={score.criterion: {choices: [taylor, fisher, obs]}, prune.rounds.0: {low: 0.4, high: 0.9}, "
    "prune.allocation: {choices: [uniform, global, solve]}, finetune.learning_rate: {low: 1.0e-5, high: 1.0e-3, "
    "log: true}, finetune.alpha: {low: 0.0, high: 1.0}}",
]  # fmt: skip
LAMBDA = [
    *ONE_SHOT, WHOLE_FRONT, "search.sampler=qmc", "search.objectives=[quality, flops, size]",
    "search.space={score.penalty: {low: 0.3, high: 30, log: true}}",
    "score.criterion=l0", "prune.rounds=[{head: {threshold: 0.001}, neuron: {threshold: 0.001}}]",
]  # fmt: skip
Line = dict[str, Any]


def main() -> None:
    """Runs what is not there yet and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only print what is there")
    parser.add_argument("--only", default="", metavar="NAME", help="those whose name begins so")
    args = parser.parse_args()
    if not args.table:
        done = {line["run"] for line in raw.lines(RESULTS)}
        for name, measure in runs().items():
            if name not in done and name.startswith(args.only):
                raw.add(RESULTS, {"run": name, **measure()})
    print(table(raw.lines(RESULTS)))


def runs() -> dict[str, Any]:
    """Everything that is measured, by name."""
    found: dict[str, Any] = {
        "cost quickstart": lambda: {"wall": timed(empty("search-cost"), "run")},
        "cost trials": lambda: searched(empty("search-cost"), TRIALS),
        "cost drafts": lambda: searched(empty("search-cost"), DRAFTS, ONE_SHOT),
    }
    for seed in SEEDS:
        place, same = f"search-front{seed}", [f"seed={seed}", *ONE_ROUND]
        found[f"front search {seed}"] = lambda p=place, s=same: searched(empty(p), TRIALS, s, "found")
        found[f"front random {seed}"] = lambda p=place, s=same: searched(workspace(p), TRIALS, s + AT_RANDOM, "random")
    found["workers"] = in_turns
    found["lambda"] = lambda: searched(empty("search-lambda"), 7, LAMBDA)
    return found


def searched(root: Path, trials: int, settings: Sequence[str] = (), name: str = "search") -> Line:
    """A search, and what it came to."""
    wall = timed(root, "search", settings, ["--name", name, "--trials", str(trials)])
    report = read(root / f".secateur/search/{name}/report/report.json")
    known = ("number", "settings", "level", "ended", "figures", "qualities")
    found = [{key: trial[key] for key in known} for trial in report["trials"]]
    if len(found) != trials:
        sys.exit(f"{len(found)} of {trials} trials are done")
    line = {"wall": wall, "trials": found, "front": report["front"], "best": report["best"]}
    best = next((trial for trial in found if trial["number"] == report["best"]), None)
    return {**line, "test": on_test(root, name, best)} if best else line


def in_turns() -> Line:
    """Wall seconds of so many drafts more by one worker, by two, and both again."""
    root, walls = empty("search-workers"), {1: [], 2: []}
    timed(root, "search", ONE_SHOT, ["--trials", str(TRIALS)])
    for turn, workers in enumerate((1, 2, 1, 2), 1):
        words = ["--trials", str(TRIALS + turn * TURN), "--workers", str(workers)]
        walls[workers].append(timed(root, "search", ONE_SHOT, words))
    return {"one": walls[1], "two": walls[2], "drafts": TURN}


def on_test(root: Path, name: str, trial: Line) -> dict[str, float]:
    """Accuracy of the dense model and of a trial's on test, which no choice saw."""
    home = root / f".secateur/search/{name}/trials/{trial['number']:04d}/level{len(trial['qualities']) - 1}"
    models = {"dense": home / "models/dense", "chosen": home / trial["figures"]["model"]}
    return {which: accuracies(model, home / "data/prepared", ("test",))["test"] for which, model in models.items()}


def timed(root: Path, command: str, settings: Sequence[str] = (), more: Sequence[str] = ()) -> float:
    """Wall seconds of `secateur COMMAND quickstart` on one thread, by the code of the workspace."""
    words = [sys.executable, "-m", "flows.cli", command, "quickstart", *more]
    words += [word for setting in ("threads=1", *settings) for word in ("--set", setting)]
    start = time.perf_counter()
    ended = subprocess.run(words, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, check=False)
    if ended.returncode not in ((0, 1) if command == "run" else (0,)):  # of a run 1 may mean a missed budget
        sys.exit(ended.returncode)
    return time.perf_counter() - start


def empty(name: str) -> Path:
    """A fresh clone, the one before removed."""
    shutil.rmtree(Path(".secateur/benchmarks", name), ignore_errors=True)
    return workspace(name)


def points(line: Line) -> list[tuple[float, float]]:
    """Quality and share of dense's latency of the trials that were made to the end."""
    ends = [trial["figures"] for trial in line["trials"] if trial["level"] == 1]
    return [(found["quality"], found["latency_share"]) for found in ends]


def hypervolume(found: Sequence[tuple[float, float]], worst: tuple[float, float]) -> float:
    """The area of (quality, latency) that a set dominates, from the corner `worst`."""
    area, floor = 0.0, worst[0]
    for quality, share in sorted(found, key=lambda one: (one[1], -one[0])):
        if quality > floor and share < worst[1]:
            area += (quality - floor) * (worst[1] - share)
            floor = quality
    return area


def table(found: list[Line]) -> str:
    """What was measured, as Markdown."""
    lines = {line["run"]: line for line in found}
    parts = []
    if "cost quickstart" in lines:
        one = lines["cost quickstart"]["wall"]
        rows = [("`secateur run quickstart`", one)]
        rows += [(text, lines[name]["wall"]) for name, text in COSTS.items() if name in lines]
        parts.append("| from cold | s | of a run |\n|---|---|---|")
        parts[-1] += "".join(f"\n| {text} | {wall:.0f} | {wall / one:.2f} |" for text, wall in rows)
    pairs = [(s, lines.get(f"front search {s}"), lines.get(f"front random {s}")) for s in SEEDS]
    if full := [(seed, one, other) for seed, one, other in pairs if one and other]:
        head = ["seed", "trained", "hypervolume within the budget", "of 20 at random", "ratio"]
        head += ["ratio from the worst quality", "s", "s at random", "points the chosen one loses on test"]
        rows, ratios = [], []
        for seed, one, other in full:
            ours, theirs = points(one), points(other)
            slowest = max(share for _, share in [*ours, *theirs])
            dense = one["trials"][0]["figures"]
            floors = (dense["quality"] + dense["drop"] - MAX_DROP, min(quality for quality, _ in [*ours, *theirs]))
            areas = [[1000 * hypervolume(points, (floor, slowest)) for points in (ours, theirs)] for floor in floors]
            ratios.append([ours / theirs for ours, theirs in areas])
            lost = f"{100 * (one['test']['dense'] - one['test']['chosen']):.2f}" if "test" in one else "none chosen"
            figures = [*(f"{area:.2f}" for area in areas[0]), *(f"{ratio:.2f}" for ratio in ratios[-1])]
            rows.append([str(seed), str(len(ours)), *figures, f"{one['wall']:.0f}", f"{other['wall']:.0f}", lost])
        means = [f"{statistics.mean(column):.2f}" for column in zip(*ratios, strict=True)]
        rows.append(["mean", "", "", "", *means, "", "", ""])
        parts.append("\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]))
    if one := lines.get("workers"):
        hourly = [3600 * one["drafts"] / statistics.median(one[crew]) for crew in ("one", "two")]
        parts.append("| workers, one thread each | drafts an hour | ratio |\n|---|---|---|")
        parts[-1] += f"\n| 1 | {hourly[0]:.0f} | |\n| 2 | {hourly[1]:.0f} | {hourly[1] / hourly[0]:.2f} |"
    if "lambda" in lines:
        trials = sorted(lines["lambda"]["trials"], key=lambda trial: trial["settings"]["score.penalty"])
        parts.append("| λ | FLOPs | parameters | accuracy on validation |\n|---|---|---|---|")
        for trial in trials:
            one = trial["figures"]
            shares = f"{one['flops_share']:.3f} | {one['parameters_share']:.3f}"
            parts[-1] += f"\n| {trial['settings']['score.penalty']:.3g} | {shares} | {one['quality']:.3f} |"
    return "\n\n".join(parts)


COSTS = {"cost trials": f"`secateur search`, {TRIALS} trials", "cost drafts": f"{DRAFTS} drafts (`search.levels=[0]`)"}


if __name__ == "__main__":
    main()
