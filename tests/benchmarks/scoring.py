"""What scoring costs beside training: CPU seconds and peak memory of every criterion, on MiniLM and Rotten Tomatoes.

    python tests/benchmarks/scoring.py            # after criteria.py; goes on where it stopped
    python tests/benchmarks/scoring.py --table

Each criterion scores heads and neurons on the default number of rows, in a process of its own with one thread; so does
the training that it is held against: an epoch of the quickstart's, in whole. Peak memory is what is added to the
process with libraries and data in it. Raw figures go to tests/benchmarks/results/scoring.jsonl.
"""

import argparse
import multiprocessing
import shutil
import statistics
import time

import numpy as np
import raw
import torch
from criteria import ROOT, SEEDS

from tasks.evaluate.timing import peak_memory
from tasks.modeling.checkpoint import load
from tasks.recipe.load import resolve
from tasks.score import CRITERIA
from tasks.score.criterion import Sample
from tasks.text.data import read_split
from tasks.text.registry import read_task
from tasks.training.train import Course, train

RESULTS = raw.RESULTS / "scoring.jsonl"
TRAINING, ROWS = "training", 512
FIGURES = ("cpu_seconds", "peak_bytes")


def main() -> None:
    """Runs what is not there yet and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only print what is there")
    if not parser.parse_args().table:
        done = {(line["run"], line["seed"]) for line in raw.lines(RESULTS)}
        for seed in SEEDS:
            for name in (TRAINING, *CRITERIA):
                if (name, seed) not in done:
                    process = multiprocessing.get_context("spawn").Process(target=measure, args=(name, seed))
                    process.start()
                    process.join()
    print(table(raw.lines(RESULTS)))


def measure(name: str, seed: int) -> None:
    """Adds a line to the raw figures."""
    torch.set_num_threads(1)
    recipe = resolve(None, [f"score.rows={ROWS}"])
    dense, prepared, scratch = ROOT / f"dense{seed}", ROOT / "prepared", ROOT / "scoring"
    split, task = read_split(prepared, "train"), read_task(prepared)
    chosen = split.take(np.sort(np.random.default_rng(seed).permutation(len(split))[: recipe.score.rows]))

    def work():
        if name != TRAINING:
            CRITERIA[name](Sample(load(dense), chosen, recipe.score.batch_size, task, seed))
        else:
            shutil.rmtree(scratch, ignore_errors=True)
            (scratch / "out").mkdir(parents=True)
            train(Course(dense, prepared, None, None, recipe.train, "accuracy", seed, scratch, scratch / "out"))
        return lambda _: None

    start = time.process_time()
    _, peak = peak_memory(work, {})
    line = {"run": name, "seed": seed, "cpu_seconds": time.process_time() - start, "peak_bytes": peak}
    raw.add(RESULTS, line)


def table(found: list[dict]) -> str:
    """Shares of an epoch of training, medians over seeds, as Markdown."""
    figures = {
        name: [statistics.median(line[key] for line in found if line["run"] == name) for key in FIGURES]
        for name in dict.fromkeys(line["run"] for line in found)
    }
    out = ["| criterion | of the time of an epoch | of training's memory |", "|---|---|---|"]
    whole = figures.pop(TRAINING)
    for name, own in sorted(figures.items(), key=lambda item: item[1]):
        shares = [mine / other for mine, other in zip(own, whole, strict=True)]
        out.append(f"| `{name}` | " + " | ".join(f"{share:.2f}" for share in shares) + " |")
    return "\n".join(out)


if __name__ == "__main__":
    main()
