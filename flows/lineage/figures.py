"""The figures of a stage's outs that a line of lineage shows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.core.files import read_json

Figures = dict[str, Any]


def figures(out: Path) -> Figures:
    """Of the small files in an out; nothing for those that are not there."""
    found: Figures = {}
    for name, read in READERS.items():
        if (out / name).is_file():
            try:
                found.update(read(read_json(out / name)))
            except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
                found[name] = "cannot be read"
    return found


def measured(quality: Path, times: Path, path: str) -> Figures:
    """The final figures of the model at `path`, from quality.json and times.json; empty if it was not evaluated."""
    if not quality.is_file():
        return {}
    found = read_json(quality)
    clock = read_json(times)["models"] if times.is_file() else {}
    keys = ("quality", "quality_low", "quality_high", "drop", "parameters", "bytes", "flops")
    for name, facts in found["models"].items():
        if facts.get("path") == path:
            timed = {key: clock.get(name, {}).get(key) for key in ("latency_ms_b1", "throughput_b32")}
            return {"name": name, "metric": found["metric"], **{key: facts.get(key) for key in keys}, **timed}
    return {}


def _data(value: Any) -> Figures:
    return {"rows": {name: split["rows"] for name, split in value["splits"].items()}, "dropped": value["dropped"]}


def _training(value: Any) -> Figures:
    last: Figures = next(iter(value.get("validation", [])[-1:]), {})
    return {"best_epoch": value.get("best_epoch"), **{f"validation_{k}": v for k, v in last.items() if k != "epoch"}}


def _plan(value: Any) -> Figures:
    removed: dict[str, int] = {}
    for group in value["groups"]:
        removed[group["kind"]] = removed.get(group["kind"], 0) + len(group["removed"])
    return {"removed": removed, **{key: value.get(key) for key in ("criterion", "allocation", "goal")}}


def _verdict(value: Any) -> Figures:
    keys = ("state", "because", "quality", "drop", "parameters", "flops")
    return {key: value[key] for key in keys if key in value}


def _passed(value: Any) -> Figures:
    return {"passed through": value["because"]}


READERS: dict[str, Callable[[Any], Figures]] = {
    "data.json": _data,
    "training.json": _training,
    "plan.json": _plan,
    "verdict.json": _verdict,
    "passed.json": _passed,
}
