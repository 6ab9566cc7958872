"""A latency table: what each group of units costs in time, measured once, and the time of any plan by it.

Of each kind some numbers of units are tried: the dense model with so many in every group, as it would be delivered, is
timed in turns with dense PyTorch fp32. What that saves, shared out over the groups, is what a group saves that keeps so
many. Groups lie one behind the other, so what they cost adds up (ZipLM: Kurtic, Frantar & Alistarh, 2023). The last
layer is tried apart: a graph computes of it only what the head reads. That is little, so what lies between its least
number of units and the full one is read off a line.
"""

import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from tasks.allocate.times import BATCH_1, BATCH_32, FILE, against_whole
from tasks.allocate.units import units_of
from tasks.core.files import read_json, write_json
from tasks.evaluate import delivered
from tasks.evaluate.timing import BATCH, least
from tasks.families import family_of
from tasks.families.anatomy import WHOLE, WIDTH, Group
from tasks.modeling.checkpoint import load
from tasks.modeling.inference import Forward, forward
from tasks.modeling.shrink import dense_layers, shrink
from tasks.recipe.schema import Evaluate
from tasks.text.data import read_split
from tasks.text.registry import read_task

LEVELS = 5
"""Numbers of units tried of each kind, denser where few stay, the full one among them."""
LEAST = 0.05
"""A plan is not believed to take less than this share of the time that the whole model takes as delivered."""


def measure_table(dense: Path, prepared: Path, kinds: Sequence[str], align: int, settings: Evaluate, out: Path) -> None:
    """Writes `table.json`: seconds of dense and of the whole model as delivered, and what fewer units save.

    `kinds` holds of each kind a list of stretches of layers: their numbers in the dense model, the numbers of units
    that were tried, the full one last, and the seconds (of a text, of a batch of 32) that a group saves with each of
    the others.

    Args:
        kinds: of units; the residual width and single weights have no entry, for their times do not add up.
        align: numbers of neurons are multiples of this.
    """
    model, split = load(dense), read_split(prepared, "validation", dense)
    causal = read_task(prepared).causal
    stretches = _stretches(model, kinds, align, causal=causal)
    with tempfile.TemporaryDirectory() as directory:

        def as_delivered(one: PreTrainedModel, name: str) -> Forward:
            return forward(one) if causal else delivered(one, split, Path(directory) / name)

        models = {"dense": forward(model), "whole": as_delivered(model, "whole")}
        for kind, parts in stretches.items():
            for groups, levels in parts:
                for level in levels[:-1]:
                    kept = _kept([group for part, _ in parts for group in part], _changed(groups), level, align)
                    name = _name(groups, level)
                    models[name] = as_delivered(shrink(model, {kind: kept}), name)
        seconds = least(models, split, settings)
    layers = dense_layers(model)

    def entry(groups: Sequence[Group], levels: list[int]) -> dict[str, Any]:
        tried = [seconds[_name(groups, level)] for level in levels[:-1]]
        saved = [
            [(whole - one) / len(_changed(groups)) for whole, one in zip(seconds["whole"], found, strict=True)]
            for found in tried
        ]
        return {"layers": [layers[group.layer] for group in groups], "levels": levels, "saved": saved}

    entries = {kind: [entry(*part) for part in parts] for kind, parts in stretches.items()}
    for unit in family_of(model.config.model_type).kinds:
        if unit.name in entries and unit.sublayer in entries and unit.parts_of not in entries:
            for part, whole in zip(entries[unit.name], entries[unit.sublayer], strict=True):
                part["levels"].insert(0, 0)  # with its last unit the sublayer goes
                part["saved"].insert(0, whole["saved"][0])
    facts = {"threads": torch.get_num_threads(), "dense": seconds["dense"], "whole": seconds["whole"], "kinds": entries}
    write_json(out / FILE, facts)


def predict(table: Path, model: Path) -> dict[str, float]:
    """The speed of a pruned checkpoint by a table, as `measure` would say it: ms, rows a second, ratios to dense."""
    found, config = read_json(table / FILE), read_json(model / "config.json")
    kept: Mapping[str, Mapping[str, Sequence[int]]] = config.get("pruned", {}).get("kept", {})
    seconds = np.array(found["whole"])
    for kind in found["kinds"]:
        both = [against_whole(found, kind, at) for at in (BATCH_1, BATCH_32)]
        for layer, units in kept.get(kind, {}).items():
            if units or kind in WHOLE:  # what went with its sublayer is counted there
                seconds = seconds + [float(more[int(layer)](np.array([len(units)]))[0]) for more in both]
    seconds = np.maximum(seconds, LEAST * np.array(found["whole"]))
    return {
        "latency_ms_b1": 1000 * float(seconds[0]),
        "throughput_b32": BATCH / float(seconds[1]),
        "speedup_b1": found["dense"][0] / float(seconds[0]),
        "speedup_b32": found["dense"][1] / float(seconds[1]),
    }


def _stretches(
    model: PreTrainedModel, kinds: Sequence[str], align: int, *, causal: bool
) -> dict[str, list[tuple[list[Group], list[int]]]]:
    """The groups of each kind, those of the last layer apart, and the numbers of units that are tried of them."""
    by_kind: dict[str, list[Group]] = defaultdict(list)
    for group in family_of(model.config.model_type).groups(model):
        if group.kind in kinds and group.kind != WIDTH:
            by_kind[group.kind].append(group)
    parts = {
        kind: [(groups, LEVELS)] if causal else [(groups[:-1], LEVELS), (groups[-1:], 2)]
        for kind, groups in by_kind.items()
    }
    return {
        kind: [(groups, _levels(groups, count, align)) for groups, count in found if groups]
        for kind, found in parts.items()
    }


def _levels(groups: Sequence[Group], count: int, align: int) -> list[int]:
    largest = max(groups, key=lambda group: group.count)
    return [int(level) for level in units_of(largest, {largest.name: torch.ones(largest.count)}, align).levels(count)]


def _name(groups: Sequence[Group], level: int) -> str:
    return f"{groups[0].name}-{level}"


def _kept(groups: Sequence[Group], changed: Sequence[Group], level: int, align: int) -> list[list[int]]:
    """Of every group of a kind the units that stay where some keep so many."""
    return [
        units_of(group, {group.name: torch.ones(group.count)}, align).best(min(level, group.count))
        if group in changed
        else list(range(group.count))
        for group in groups
    ]


def _changed(groups: Sequence[Group]) -> Sequence[Group]:
    """The groups that a level is tried on: all, or half of those that may go altogether."""
    return groups[: max(1, len(groups) // 2)] if groups[0].kind in WHOLE else groups
