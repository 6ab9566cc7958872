"""The records of decisions: a JSON file each, in git; nothing is ever changed in one."""

from pathlib import Path
from typing import Any

from tasks.core.files import read_json

DIRECTORY = "promotions"


def decisions(root: Path) -> list[dict[str, Any]]:
    """Every promotion, refusal and rollback of a workspace, the earliest first."""
    return [read_json(path) for path in sorted((root / DIRECTORY).glob("[0-9]*.json"))]


def path(root: Path, identity: str) -> Path:
    """The file of a decision; ids begin with the time, so names are in order."""
    return root / DIRECTORY / f"{identity}.json"
