"""How scoring, pruning and refitting grow with the model: CPU seconds and peak memory, three widths by three depths.

    python tests/benchmarks/growth.py            # after criteria.py, whose rows it takes; goes on where it stopped
    python tests/benchmarks/growth.py --table

BERT of random weights, heads of 64, four times as many neurons as the width. Half of heads and neurons go at once,
scored by structured OBS on 256 rows and refitted on as many. Each figure is of a process of its own with one thread;
memory is what the stage adds to a process with libraries in it. Raw figures: tests/benchmarks/results/growth.jsonl.
"""

import argparse
import itertools
import multiprocessing
import shutil
import time
from functools import partial
from pathlib import Path

import numpy as np
import raw
import torch
from criteria import ROOT as PREPARED
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from tasks.core.files import write_json
from tasks.evaluate.timing import peak_memory
from tasks.modeling.size import SIZES, size
from tasks.prune import prune
from tasks.recipe.load import resolve
from tasks.score import score_units

ROOT = Path(".secateur/benchmarks/growth")
RESULTS = raw.RESULTS / "growth.jsonl"
PICTURE = raw.RESULTS / "growth.png"
WIDTHS, DEPTHS = (192, 384, 768), (3, 6, 12)
STAGES = ("score", "prune", "reconstruct")
"""`prune` only cuts, `reconstruct` cuts and refits."""
FIGURES = {"cpu_seconds": "CPU seconds", "peak_bytes": "peak memory, bytes"}
LENGTH = 27


def main() -> None:
    """Runs what is not there yet, draws the picture and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only print what is there")
    if not parser.parse_args().table:
        done = {(line["width"], line["depth"], line["stage"]) for line in raw.lines(RESULTS)}
        for shape in itertools.product(WIDTHS, DEPTHS):
            for stage in STAGES:
                if (*shape, stage) not in done:
                    process = multiprocessing.get_context("spawn").Process(target=measure, args=(*shape, stage))
                    process.start()
                    process.join()
    found = raw.lines(RESULTS)
    draw(found)
    print(table(found))


def measure(width: int, depth: int, stage: str) -> None:
    """Adds a line to the raw figures; `score` leaves the model and its scores to the stages after it."""
    torch.set_num_threads(1)
    model, scores = ROOT / f"{width}x{depth}", ROOT / f"scores-{width}x{depth}"
    if not model.is_dir():
        build(width, depth, model)
    settings = ["score.criterion=obs", "score.rows=256", "prune.rows=256", "prune.rounds=[0.5]"]
    recipe = resolve(None, [*settings, f"prune.reconstruct={str(stage == 'reconstruct').lower()}"])
    out = scores if stage == "score" else ROOT / "cut"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    run = (
        partial(score_units, model, PREPARED / "prepared", recipe.score, recipe.prune.units, "accuracy", 0, ROOT, out)
        if stage == "score"
        else partial(prune, model, scores, PREPARED / "prepared", model, 0, "obs", recipe.prune, 0, out)
    )

    def work():
        run()
        return lambda _: None

    start = time.process_time()
    _, peak = peak_memory(work, {})
    seconds = time.process_time() - start
    line = {"width": width, "depth": depth, "stage": stage, "cpu_seconds": seconds, "peak_bytes": peak}
    raw.add(RESULTS, line)


def build(width: int, depth: int, out: Path) -> None:
    """A checkpoint of random weights with the tokenizer of the data."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(PREPARED / "prepared" / "tokenizer")
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=width, num_hidden_layers=depth, num_attention_heads=width // 64,
        intermediate_size=4 * width, num_labels=2,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    write_json(out / SIZES, size(model, LENGTH))


def rates(found: list[dict], stage: str, figure: str, axis: str) -> list[float]:
    """Exponents p of figure ~ axis^p, by least squares on the logarithms, one for each value of the other axis."""
    other, points = "depth" if axis == "width" else "width", [line for line in found if line["stage"] == stage]
    lines = [[line for line in points if line[other] == value] for value in sorted({line[other] for line in points})]
    logs = [(np.log([p[axis] for p in line]), np.log([p[figure] for p in line])) for line in lines]
    return [float(np.polyfit(x, y, 1)[0]) for x, y in logs]


def table(found: list[dict]) -> str:
    """Growth rates, and what the largest model takes, as Markdown."""
    out = ["| stage | time ~ width^ | time ~ depth^ | memory ~ width^ | memory ~ depth^ | largest: s, GB |"]
    out.append("|---|---|---|---|---|---|")
    for stage in STAGES:
        cells = []
        for figure, axis in itertools.product(FIGURES, ("width", "depth")):
            low, *_, high = sorted(rates(found, stage, figure, axis))
            cells.append(f"{low:.2f} to {high:.2f}")
        last = next(p for p in found if (p["width"], p["depth"], p["stage"]) == (WIDTHS[-1], DEPTHS[-1], stage))
        cells.append(f"{last['cpu_seconds']:.0f}, {last['peak_bytes'] / 1e9:.2f}")
        out.append(f"| `{stage}` | " + " | ".join(cells) + " |")
    return "\n".join(out)


def draw(found: list[dict]) -> None:
    """Time and memory against width, a line for each depth."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), layout="constrained")
    panels = figure.subplots(len(FIGURES), len(STAGES), sharex=True, sharey="row")
    for row, (key, name) in zip(panels, FIGURES.items(), strict=True):
        for panel, stage in zip(row, STAGES, strict=True):
            for depth in DEPTHS:
                line = [p for p in found if p["stage"] == stage and p["depth"] == depth]
                panel.loglog([p["width"] for p in line], [p[key] for p in line], marker="o", label=f"{depth} layers")
            panel.set_xticks(WIDTHS, [str(width) for width in WIDTHS], minor=False)
            panel.minorticks_off()
            panel.set_title(stage)
        row[0].set_ylabel(name)
    for panel in panels[-1]:
        panel.set_xlabel("width")
    panels[0][0].legend()
    FigureCanvasAgg(figure).print_png(PICTURE)


if __name__ == "__main__":
    main()
