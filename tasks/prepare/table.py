"""A file's columns, and where each row stands in it."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.core.errors import UserError


@dataclass(frozen=True)
class Table:
    """What a file holds, not yet checked."""

    name: str
    """How messages call the file."""
    columns: dict[str, list[Any]]
    """Equally long; None where a row has no value."""
    unit: str
    """What `numbers` count: `line` or `row`, from 1."""
    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.numbers)

    def at(self, index: int) -> str:
        """Where row `index` stands, for a message."""
        return f"{self.name}, {self.unit} {self.numbers[index]}"

    def column(self, key: str, name: str) -> list[Any]:
        """The values of a column.

        Args:
            key: the key of the recipe that names it, for the message.
            name: its name.

        Raises:
            UserError: there is none of that name.
        """
        if name not in self.columns:
            near = difflib.get_close_matches(name, self.columns, n=1, cutoff=0.4)
            nearest = f"; the nearest is {near[0]}" if near else ""
            raise UserError(f"{key}: {self.name} has no column {name!r}; it has {', '.join(self.columns)}{nearest}")
        return self.columns[name]
