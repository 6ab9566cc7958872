"""A latency table: what each group of units costs in time, measured once, and the time of any plan by it.

Of each kind some numbers of units are tried: the dense model with so many in every group, as it would be delivered, is
timed in turns with dense PyTorch fp32. What that saves, shared out over the groups, is what a group saves that keeps so
many. Groups lie one behind the other, so what they cost adds up (ZipLM: Kurtic, Frantar & Alistarh, 2023).
"""

import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.allocate.cost import latency
from tasks.allocate.units import units_of
from tasks.core.files import read_json, write_json
from tasks.evaluate import delivered
from tasks.evaluate.timing import BATCH, measure
from tasks.families import family_of
from tasks.families.anatomy import WHOLE, WIDTH, Group
from tasks.modeling.checkpoint import load
from tasks.modeling.inference import Forward, forward
from tasks.modeling.shrink import shrink
from tasks.recipe.schema import Evaluate
from tasks.text.data import read_split
from tasks.text.registry import read_task

FILE = "table.json"
LEVELS = 5
"""Numbers of units tried of each kind, evenly spread, the full one among them."""
LEAST = 0.05
"""A plan is not believed to take less than this share of the time that the whole model takes as delivered."""


def measure_table(dense: Path, prepared: Path, kinds: Sequence[str], align: int, settings: Evaluate, out: Path) -> None:
    """Writes `table.json`: seconds of dense and of the whole model as delivered, and by kind and number of units kept.

    Args:
        kinds: of units; the residual width and single weights have no entry, for their times do not add up.
        align: numbers of neurons are multiples of this.
    """
    model, split = load(dense), read_split(prepared, "validation", dense)
    causal = read_task(prepared).causal
    by_kind: dict[str, list[Group]] = defaultdict(list)
    for group in family_of(model.config.model_type).groups(model):
        if group.kind in kinds and group.kind != WIDTH:
            by_kind[group.kind].append(group)
    with tempfile.TemporaryDirectory() as directory:

        def as_delivered(one: Any, name: str) -> Forward:
            return forward(one) if causal else delivered(one, split, Path(directory) / name)

        models = {"dense": forward(model), "whole": as_delivered(model, "whole")}
        for kind, groups in by_kind.items():
            for level in _levels(groups[0], align)[:-1]:
                kept = {kind: [_best(group, level, align) for group in _changed(groups)]}
                kept[kind] += [list(range(g.count)) for g in groups[len(kept[kind]) :]]
                models[f"{kind} {level}"] = as_delivered(shrink(model, kept), f"{kind}-{level}")
        times = measure(models, dict.fromkeys(models, split), settings)
    seconds = {name: [found["latency_ms_b1"] / 1000, BATCH / found["throughput_b32"]] for name, found in times.items()}
    table: dict[str, Any] = {"threads": torch.get_num_threads(), "dense": seconds["dense"], "whole": seconds["whole"]}
    table["kinds"] = {
        kind: {
            "levels": _levels(groups[0], align),
            "saved": [
                [(seconds["whole"][at] - seconds[f"{kind} {level}"][at]) / len(_changed(groups)) for at in (0, 1)]
                for level in _levels(groups[0], align)[:-1]
            ],
        }
        for kind, groups in by_kind.items()
    }
    write_json(out / FILE, table)


def predict(table: Path, model: Path) -> dict[str, float]:
    """The speed of a pruned checkpoint by a table, as `measure` would say it: ms, rows a second, ratios to dense."""
    found, config = read_json(table / FILE), read_json(model / "config.json")
    kept: Mapping[str, Mapping[str, Sequence[int]]] = config.get("pruned", {}).get("kept", {})
    seconds = np.array(found["whole"])
    for kind, entry in found["kinds"].items():
        for units in kept.get(kind, {}).values():
            if units or kind in WHOLE:  # what went with its sublayer is counted there
                seconds = seconds - [_saved(entry, at, len(units)) for at in (0, 1)]
    seconds = np.maximum(seconds, LEAST * np.array(found["whole"]))
    return {
        "latency_ms_b1": 1000 * float(seconds[0]),
        "throughput_b32": BATCH / float(seconds[1]),
        "speedup_b1": found["dense"][0] / float(seconds[0]),
        "speedup_b32": found["dense"][1] / float(seconds[1]),
    }


def _saved(entry: Mapping[str, Any], at: int, count: int) -> float:
    """Seconds that a group saves which keeps `count` units."""
    saved = [one[at] for one in entry["saved"]] + [0.0]
    costs = latency({level: -one for level, one in zip(entry["levels"], saved, strict=True)})
    return -float(costs(np.array([count]))[0])


def _levels(group: Group, align: int) -> list[int]:
    return [int(level) for level in units_of(group, {group.name: torch.ones(group.count)}, align).levels(LEVELS)]


def _best(group: Group, level: int, align: int) -> list[int]:
    return units_of(group, {group.name: torch.ones(group.count)}, align).best(level)


def _changed(groups: Sequence[Group]) -> Sequence[Group]:
    """The groups that a level is tried on: all, or half of those that may go altogether."""
    return groups[: max(1, len(groups) // 2)] if groups[0].kind in WHOLE else groups
