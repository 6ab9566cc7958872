"""What was made from what: the records of provenance, checked against the files that lie there."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tasks.core.files import read_json, tree_hash


def lineage(roots: Sequence[Path]) -> list[dict[str, Any]]:
    """One entry for each out below `roots` (`data/prepared`, `models`, …), makers before users.

    Each has the out's path, stage, sha256 and inputs; `unchanged` says for an input whether its sha256, as noted when
    it was read, is still that of the file that lies there (None: it is not one of the outs, such as a fetched source).
    """
    records = [(path.parent, read_json(path)) for root in roots for path in _records(root)]
    hashes = {record["out"]: tree_hash(directory) for directory, record in records}
    entries = {}
    for _, record in records:
        inputs = [
            {"path": path, "sha256": noted, "unchanged": hashes[path] == noted if path in hashes else None}
            for path, noted in sorted(record["inputs"].items())
        ]
        out = record["out"]
        facts = {key: record.get(key) for key in ("stage", "seed", "device", "python", "packages")}
        entries[out] = {"out": out, "sha256": hashes[out], "inputs": inputs, **facts}
    return list(_ordered(entries))


def _records(root: Path) -> Iterator[Path]:
    """provenance.json of every out, those of unfinished (hidden) directories aside."""
    for directory, below, files in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        if "provenance.json" in files:
            below.clear()
            yield Path(directory) / "provenance.json"


def _ordered(entries: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Entries after everything they read; an input such as `models` stands for all outs below it."""
    waiting = dict(entries)
    while waiting:
        ready = [out for out, entry in waiting.items() if not _blocked(entry, waiting)] or list(waiting)
        for out in ready:
            yield waiting.pop(out)


def _blocked(entry: dict[str, Any], waiting: dict[str, dict[str, Any]]) -> bool:
    reads = [item["path"] for item in entry["inputs"]]
    return any(other != entry["out"] and f"{other}/".startswith(f"{path}/") for path in reads for other in waiting)
