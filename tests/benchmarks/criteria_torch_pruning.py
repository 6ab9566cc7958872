"""Torch-Pruning beside the criteria of criteria.py: the same dense models, rows and levels; `make bench-env` first.

    PYTHONPATH=. .venv-bench/bin/python tests/benchmarks/criteria_torch_pruning.py    # after criteria.py

Heads and neurons go, the same share of every layer, by the tool's group Taylor importance: one-shot, and at half of the
FLOPs also after one epoch of the tool's own fine-tuning (seed 0). Lines go to the raw figures of criteria.py.
"""

from pathlib import Path

import raw
import torch
from contenders import ort
from contenders.recovery import cross_entropy, recover
from contenders.rows import loader
from contenders.settings import RATE
from contenders.torch_pruning import prune

from tasks.modeling.inference import forward, logits
from tasks.modeling.size import size
from tasks.text.data import read_split

ROOT, RESULTS = Path(".secateur/benchmarks/criteria"), raw.RESULTS / "criteria.jsonl"
NAME, SEEDS, LEVELS, LENGTH = "torch-pruning", (0, 1, 2), (0.3, 0.5, 0.7), 27


def main() -> None:
    """Runs what is not there yet."""
    torch.set_num_threads(1)
    there = raw.lines(RESULTS)
    done = {(line["seed"], line["level"], line["recovered"]) for line in there if line["criterion"] == NAME}
    runs = [(seed, level, False) for seed in SEEDS for level in LEVELS] + [(0, 0.5, True)]
    for run in runs:
        if run not in done and (ROOT / f"dense{run[0]}").is_dir():
            record(*run)


def record(seed: int, level: float, recovered: bool) -> None:
    """Prunes, measures on test and adds a line."""
    torch.manual_seed(seed)
    prepared = ROOT / "prepared"
    model, batches = ort.load(ROOT / f"dense{seed}"), loader(prepared, seed)
    dense, whole = accuracy(model, prepared), size(model, LENGTH)["flops"]
    prune(model, batches, level, bottleneck=True)
    if recovered:
        recover(model, batches, len(batches), cross_entropy(0.11), rate=RATE, schedule="cosine", warmup=0.0)
    line = {
        "seed": seed,
        "criterion": NAME,
        "allocation": "uniform",
        "reconstruct": False,
        "level": level,
        "recovered": recovered,
        "dense": {"test": dense},
        "pruned": {"test": accuracy(model, prepared)},
        "flops_left": size(model, LENGTH)["flops"] / whole,
    }
    raw.add(RESULTS, line)


def accuracy(model: torch.nn.Module, prepared: Path) -> float:
    """On test."""
    split = read_split(prepared, "test")
    return float((logits(forward(model), split, 64).argmax(-1) == split.labels).mean())


if __name__ == "__main__":
    main()
