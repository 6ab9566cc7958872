"""How rounds end: the verdict of each, and what a round does that comes after the last."""

from collections.abc import Sequence
from pathlib import Path

from tasks.core.files import read_json, write_json

VERDICT = "verdict.json"
PASSED = "passed.json"


def ended(directory: Path) -> str | None:
    """Why no further round is wanted after the out in `directory`, or None: the loop goes on.

    `directory` is an evaluated round (its verdict is not `continue`) or an out of a round that was passed through.
    """
    if (directory / PASSED).is_file():
        return str(read_json(directory / PASSED)["because"])
    if not (directory / VERDICT).is_file():
        return None
    found = read_json(directory / VERDICT)
    return None if found["state"] == "continue" else f"{found['round']}: {found['because']}"


def pass_through(directory: Path, because: str) -> None:
    """Marks the out in `directory` as that of a round that was not needed."""
    write_json(directory / PASSED, {"because": because})


def last_good(rounds: Path, names: Sequence[str]) -> str | None:
    """The last round, in the order of `names`, that kept the budget's quality; None: no round did."""
    good = None
    for name in names:
        if read_json(rounds / name / VERDICT)["state"] in {"continue", "met"}:
            good = name
    return good
