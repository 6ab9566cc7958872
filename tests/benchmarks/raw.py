"""The raw figures of a benchmark: a file of results/, one JSON object a line, by which it goes on where it stopped."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def lines(results: Path) -> list[dict[str, Any]]:
    """What is there."""
    return [json.loads(line) for line in results.read_text().splitlines()] if results.is_file() else []


def add(results: Path, line: dict[str, Any]) -> None:
    """Adds a line, and shows it."""
    text = json.dumps(line)
    with results.open("a") as file:
        file.write(text + "\n")
    print(text, flush=True)
