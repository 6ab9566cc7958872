from typing import Any

from tasks.recipe.schema import Data

DEFAULTS: dict[str, Any] = {
    "source": "data.csv",
    "text": "text",
    "text_pair": None,
    "label": "label",
    "labels": None,
    "separator": ",",
    "unit": "line",
    "unescape": False,
    "deduplicate": True,
    "group": None,
    "validation": 0.2,
    "test": 0.2,
    "limit": None,
    "max_chars": 100_000,
}


def make_data(**changes: Any) -> Data:
    return Data(**{**DEFAULTS, **changes})


def examples(count: int = 60) -> list[tuple[str, str]]:
    """(text, label), all different, two classes in turn."""
    return [(f"the film number {i} is {'good' if i % 2 else 'bad'}", "pos" if i % 2 else "neg") for i in range(count)]


def csv_text(rows: list[tuple[str, ...]], header: str = "text,label") -> str:
    return "\n".join([header, *(",".join(row) for row in rows)]) + "\n"
