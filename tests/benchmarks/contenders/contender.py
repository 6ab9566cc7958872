"""What a contender is, and what it is given."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ARTEFACT = "artefact.json"


@dataclass(frozen=True)
class Job:
    """One point of one contender with one seed."""

    dense: Path
    """Checkpoint of the dense model: safetensors, config, tokenizer."""
    teacher: Path
    """Its logits, as the train stage leaves them."""
    prepared: Path
    """Out of the prepare stage."""
    point: str
    steps: int
    """Optimiser steps it may train, in batches of 32."""
    seed: int
    scratch: Path
    out: Path
    """Gets the artefact."""


@dataclass(frozen=True)
class Contender:
    """A tool, or a plain way without one."""

    name: str
    points: tuple[str, ...]
    """From the mildest to the strongest."""
    packages: tuple[str, ...]
    """Whose versions are recorded."""
    settings: str
    """How it is set, in words."""
    make: Callable[[Job], None]
    own: bool = False
    """Made in the product's environment, not in `.venv-bench`."""
    recipe: Callable[[str], str] = lambda _: ""
    """Text of a point's recipe, where it has one; a point whose recipe changed is made anew."""
    from_int8: bool = False
    """Its front starts where nothing is removed: at dense ONNX Runtime int8."""


def describe(out: Path, kind: str, files: Iterable[str], **facts: Any) -> None:
    """Says in `out` how the artefact is opened, and which files are its weights."""
    text = json.dumps({"kind": kind, "files": sorted(files), **facts}, indent=2, sort_keys=True)
    (out / ARTEFACT).write_text(text + "\n")


def facts_of(directory: Path) -> dict[str, Any]:
    """What `describe` wrote."""
    return dict(json.loads((directory / ARTEFACT).read_text()))


def size(directory: Path) -> int:
    """Bytes of an artefact's weights."""
    return sum((directory / name).stat().st_size for name in facts_of(directory)["files"])
