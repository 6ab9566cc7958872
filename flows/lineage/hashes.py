"""Hashes computed from the bytes that lie there: no cache, no record is believed."""

from functools import cache
from pathlib import Path
from typing import Any

from dvc.fs import LocalFileSystem
from dvc_data.hashfile.build import build
from dvc_data.hashfile.db import HashFileDB
from dvc_data.hashfile.hash import file_md5

from tasks.core.files import file_hash, tree_hash


class Hashes:
    """Of paths below `root`; None for what is not there."""

    def __init__(self, root: Path, ignore: Any = None) -> None:
        """Leaves out what DVC's `ignore` leaves out of dvc.lock."""
        self.root = root
        self.ignore = ignore
        self.md5 = cache(self._md5)
        self.sha256 = cache(self._sha256)

    def _md5(self, path: str) -> str | None:
        """As dvc.lock has it: of a file, or `….dir` of a directory."""
        if not (self.root / path).exists():
            return None
        files = LocalFileSystem()
        # A database without a state has no hashes to remember, and a dry run writes nothing.
        nothing = HashFileDB(files, str(self.root))
        where = str(self.root / path)
        _, _, found = build(nothing, where, files, "md5", dry_run=True, ignore=self.ignore)
        return str(found.hash_info.value)

    def _sha256(self, path: str) -> str | None:
        """As provenance has it."""
        return tree_hash(self.root / path) if (self.root / path).exists() else None

    def files(self, path: str) -> dict[str, str]:
        """sha256 of every file of a directory by its path there."""
        root = self.root / path
        return {
            file.relative_to(root).as_posix(): file_hash(file) for file in sorted(root.rglob("*")) if file.is_file()
        }

    def changed(self, path: str, noted: dict[str, str]) -> str | None:
        """The first file of a directory that is not as `noted`: md5 by path there."""
        root = self.root / path
        there = {file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file()}
        for name in sorted({*noted, *there}):
            if name not in there or name not in noted or file_md5(str(root / name), LocalFileSystem()) != noted[name]:
                return f"{path}/{name}"
        return None
