"""What a stage may take: a clock and a scale for its process, watched by the one that started it."""

import contextlib
import time

import psutil

from tasks.core.errors import EnvironmentFault
from tasks.recipe.operating import StageLimits

GB = 2**30
POLL = 0.25
"""Seconds between two looks at the scale."""


class Beyond(EnvironmentFault):
    """A stage took more than it may."""


class Watch:
    """The limits of one stage from now on."""

    def __init__(self, stage: str, limits: StageLimits, process: int) -> None:
        """Watches `process` and all that it starts.

        Args:
            stage: The stage's name, for the message.
            limits: What it may take.
            process: Its id.
        """
        self._stage, self._limits, self._process = stage, limits, process
        self._end = time.monotonic() + limits.minutes * 60 if limits.minutes else None

    @property
    def pause(self) -> float | None:
        """Seconds until the next look; None if there is nothing to watch."""
        if self._limits.memory_gb:
            return POLL
        return max(0.0, self._end - time.monotonic()) if self._end else None

    def beyond(self) -> str | None:
        """What it took too much of, in words; None as long as all is well."""
        group = self._stage.partition("@")[0]
        if self._end and time.monotonic() >= self._end:
            return (
                f"took longer than {self._limits.minutes:g} minutes, which limits.minutes allows; "
                f"allow more, for this stage by limits.stages.{group}.minutes"
            )
        allowed = self._limits.memory_gb
        if allowed and (used := resident(self._process) / GB) > allowed:
            return (
                f"used {used:.2f} GB of memory, limits.memory_gb allows {allowed:g}; lower its batch_size, or allow "
                f"more, for this stage by limits.stages.{group}.memory_gb"
            )
        return None


def resident(process: int) -> int:
    """Bytes of memory that a process and all that it started hold; 0 once it is gone."""
    total = 0
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(process)
        for one in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += one.memory_info().rss
    return total
