"""What is wrong with a recipe, line by line."""

from pathlib import Path

import pytest

from tasks.core.errors import UserError
from tasks.recipe.load import resolve


def mistakes(*overrides: str, recipe: Path | None = None) -> list[str]:
    with pytest.raises(UserError) as caught:
        resolve(recipe, overrides)
    return [line.strip() for line in str(caught.value).splitlines()]
