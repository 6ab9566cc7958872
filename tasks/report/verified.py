"""How far quantized graphs are from the checkpoints they were made of, and what stayed in float32 in mixed ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.core.files import read_json
from tasks.report.changed import JUDGES, excerpts

SHOWN = 3
"""Worst examples of each graph on the page; verified.json beside the graph has more."""


def verified(task: str, labels: Sequence[str], models: Sequence[dict[str, Any]], root: Path) -> list[dict[str, Any]]:
    """What the quantize stage noted of each graph: its `model`, then as verified.json, with names of classes.

    `mixed` holds mixed.json of a graph of mixed precision, else None.

    Args:
        task: type of task.
        labels: names of the classes.
        models: with `name` and `path`.
        root: the workspace.
    """
    found = []
    for model in models:
        directory = root / model["path"]
        if not (directory / "verified.json").is_file():
            continue
        facts = read_json(directory / "verified.json")
        for entry in facts["worst"]:
            entry |= {side: JUDGES[task].named(entry[side], labels) for side in ("source", "quantized")}
        mixed = directory / "mixed.json"
        found.append({"model": model["name"], **facts, "mixed": read_json(mixed) if mixed.is_file() else None})
    return found


def with_texts(found: Sequence[dict[str, Any]], prepared: Path) -> list[dict[str, Any]]:
    """The same for the page: the first few worst examples, with the beginning of their texts."""
    shown = []
    for facts in found:
        worst = facts["worst"][:SHOWN]
        texts = excerpts(prepared, [entry["index"] for entry in worst], "validation")
        pairs = zip(worst, texts, strict=True)
        shown.append({**facts, "worst": [{**entry, "text": text} for entry, text in pairs]})
    return shown
