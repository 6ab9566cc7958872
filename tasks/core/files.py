"""Hashes of files and directories, and outs that are whole or absent."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

IGNORED = {"__pycache__"}


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_hash(path: Path) -> str:
    """sha256 over the names and bytes of all files in `path` (of the bytes alone, if it is a file)."""
    if path.is_file():
        return file_hash(path)
    total = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file() and not IGNORED & set(p.parts)):
        total.update(f"{file.relative_to(path).as_posix()}\0{file_hash(file)}\n".encode())
    return total.hexdigest()


def tree_bytes(path: Path) -> int:
    """Size of a file, or of all files in a directory, in bytes."""
    return path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


@contextmanager
def whole(out: Path) -> Iterator[Path]:
    """A fresh directory beside `out` that takes its place when the block ends well, and vanishes otherwise."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def replace(new: Path, out: Path) -> None:
    """Renames the directory `new` to `out`; what was there goes first."""
    if out.exists():
        old = out.with_name(f".{out.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        os.replace(out, old)
        os.replace(new, out)
        shutil.rmtree(old)
    else:
        os.replace(new, out)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as JSON: sorted keys, the same bytes for the same value; the file is whole or as before."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(partial, path)


def read_json(path: Path) -> Any:
    """The value in a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
