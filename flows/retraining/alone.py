"""One retraining of a workspace at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from flows.workspace import RETRAINING, hold, private
from tasks.core.errors import EnvironmentFault


class Refused(EnvironmentFault):
    """Another retraining is at work."""


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Keeps every other retraining out of the workspace; the kernel frees it, however this one ends.

    Raises:
        Refused: Another one is at work.
    """

    def refuse(holder: str) -> Refused:
        return Refused(f"a retraining is already running in this workspace ({holder}); this one is refused")

    with hold(private(root, RETRAINING), f"since {datetime.now(UTC).isoformat(timespec='seconds')},", refuse):
        yield
