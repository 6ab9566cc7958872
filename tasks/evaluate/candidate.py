"""One candidate of a search against the dense model: what it keeps and costs, and how fast it would be delivered."""

import tempfile
from pathlib import Path

import torch

from tasks.core.files import read_json, tree_bytes, write_json
from tasks.evaluate import delivered, evaluate_round
from tasks.evaluate.timing import measure
from tasks.modeling.checkpoint import WEIGHTS, load
from tasks.modeling.inference import GRAPH, forward, open_model
from tasks.recipe.schema import Budget, Evaluate
from tasks.text.data import read_split
from tasks.text.registry import read_task

FREE = Budget(max_drop=None, speedup_b1=None, speedup_b32=None, max_parameters=None, max_flops=None)


def judge_candidate(
    model: Path, dense: Path, teacher: Path, prepared: Path, settings: Evaluate, metric: str, out: Path,
    graph: Path | None = None, texts: int | None = None,
) -> None:  # fmt: skip
    """Writes quality on validation, operations and bytes to `verdict.json`; see `evaluate_round`. No budget decides.

    Args:
        graph: the directory of its quantized form; then quality and bytes are of this.
        texts: at most so many are asked; None: all.
    """
    evaluate_round("candidate", model, dense, teacher, prepared, FREE, settings, metric, out, out, graph, texts)
    verdict = out / "verdict.json"
    write_json(verdict, {**read_json(verdict), "bytes": tree_bytes(graph / GRAPH if graph else model / WEIGHTS)})


def time_candidate(
    model: Path, dense: Path, prepared: Path, settings: Evaluate, out: Path, graph: Path | None = None
) -> None:
    """Times a checkpoint, as it would be delivered, in turns with dense PyTorch fp32; writes `times.json`.

    The candidate's figures are those of `measure`: ms at batch 1, rows a second at batch 32, ratios to dense.

    Args:
        graph: the directory of its quantized form, if it has one; else this is dynamic int8 made here.
    """
    split, own = read_split(prepared, "validation"), read_split(prepared, "validation", model)
    with tempfile.TemporaryDirectory() as directory:
        if graph or read_task(prepared).causal:
            run = open_model(graph or model, torch.get_num_threads())
        else:
            run = delivered(load(model), own, Path(directory) / "graph")
        found = measure({"dense": forward(load(dense)), "candidate": run}, {"dense": split, "candidate": own}, settings)
    write_json(out / "times.json", {"threads": torch.get_num_threads(), "models": found})
