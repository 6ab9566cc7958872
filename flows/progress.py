"""What a run shows: on a terminal one live line for the stage at work, elsewhere one plain line per stage."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

TAIL = 400  # bytes at the end of a log that are looked at
COUNTED = re.compile(r"(?P<done>\d+)/(?P<total>\d+)$")  # as tasks/core/progress.py counts


class Progress:
    """Lines on the console."""

    def __init__(self, console: Console | None = None) -> None:
        """Writes to `console`; without one to stdout."""
        self.console = console or Console(highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """A line of its own."""
        self.console.print(Text(text))

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[Path | None], None]]:
        """Shows that `name` is at work, and in the end how long it took.

        Gives back a function to call now and then, with the log whose last line may be shown.
        """
        start = time.monotonic()
        if not self.console.is_terminal:
            print(f"{name} …", end=" ", file=self.console.file, flush=True)
            try:
                yield lambda _: None
            except BaseException:
                print(file=self.console.file, flush=True)
                raise
            print(f"done in {_clock(time.monotonic() - start)}", file=self.console.file, flush=True)
            return

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(20),
            TextColumn("{task.fields[last]}", table_column=Column(no_wrap=True, ratio=1)),
            TimeElapsedColumn(),
        )
        with Bars(*columns, console=self.console, transient=True, expand=True) as bars:
            bar = bars.add_task(name, total=None, last="")

            def tick(log: Path | None) -> None:
                last = _last(log) if log else ""
                counted = COUNTED.search(last)
                if counted:
                    bars.update(bar, total=int(counted["total"]), completed=int(counted["done"]))
                bars.update(bar, last=escape(last))

            yield tick
        self.console.print(Text(f"{name} … done in {_clock(time.monotonic() - start)}"))


def _clock(seconds: float) -> str:
    """`8 s`, `75 s`, `12 min 5 s`."""
    whole = round(seconds)
    if seconds < 1:
        return f"{seconds:.1f} s"
    return f"{whole} s" if whole < 100 else f"{whole // 60} min {whole % 60} s"


def _last(log: Path) -> str:
    """The last line of a log; of a progress bar that overwrites itself, its last state."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return "".join(c for c in lines[-1] if c.isprintable()) if lines else ""
