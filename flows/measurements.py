"""The numbers and the small files in a stage's outs, as MLflow takes them."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tasks.core.files import read_json

PAGES = {".html", ".png", ".svg", ".md"}
LARGEST = 4_000_000  # bytes of a file worth attaching
AXES = ("step", "epoch")  # what an entry of a curve is counted by
NOT_MEASURED = {"provenance.json"}
MODEL_FILES = (
    "config.json",
    "tokenizer",
    "special_tokens",
    "added_tokens",
    "vocab",
    "generation_config",
    "preprocessor",
    "model.safetensors.index",
)


class Number(NamedTuple):
    """One value of a metric."""

    name: str
    value: float
    step: int


def files(out: Path) -> list[Path]:
    """The files of an out that are worth attaching: results and pictures, not weights, data or vocabularies."""
    found = sorted(path for path in out.rglob("*") if path.is_file() and not path.is_symlink())
    return [path for path in found if _wanted(path) and path.stat().st_size <= LARGEST]


def numbers(out: Path) -> list[Number]:
    """All numbers in the JSON files of an out, named by file and keys.

    A list whose entries have a `step` or `epoch` is a curve; other lists are left out.
    """
    found: list[Number] = []
    for path in files(out):
        if path.suffix == ".json" and path.name not in NOT_MEASURED:
            try:
                value = read_json(path)
            except (json.JSONDecodeError, UnicodeDecodeError):
                continue
            found.extend(_walk((*path.relative_to(out).parts[:-1], path.stem), value, 0))
    return found


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested params as `section.key` and text."""
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return found


def _wanted(path: Path) -> bool:
    if path.name.startswith(MODEL_FILES):
        return False
    return path.suffix in PAGES or path.suffix == ".json"


def _walk(name: tuple[str, ...], value: Any, step: int) -> Iterator[Number]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            # {"models": {"dense": …}}: the name of the model says enough
            yield from _walk(name if key == "models" else (*name, str(key)), inner, step)
    elif isinstance(value, list):
        for entry in value:
            at = next((key for key in AXES if isinstance(entry, Mapping) and isinstance(entry.get(key), int)), None)
            if at:
                yield from _walk(name, {key: v for key, v in entry.items() if key not in AXES}, entry[at])
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        yield Number(_allowed(".".join(name)), float(value), step)


def _allowed(name: str) -> str:
    """MLflow takes letters, digits and a few signs, up to 250 of them."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)[:250]
