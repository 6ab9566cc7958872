"""Says whether this machine has what a run needs, and what to do where it has not.

secateur doctor
"""

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows import checks
from flows.workspace import find
from tasks.core.errors import UserError

STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def doctor() -> int:
    """Prints every finding; the exit status: 1 if one is a problem."""
    findings = examine(Path.cwd())
    (_table if sys.stdout.isatty() else _lines)(findings)
    problems = sum(finding.state == "problem" for finding in findings)
    warnings = sum(finding.state == "warning" for finding in findings)
    print(f"{_count(problems, 'problem')}, {_count(warnings, 'warning')}")
    return 1 if problems else 0


def examine(start: Path) -> list[checks.Finding]:
    """All findings, for the workspace that `start` lies in."""
    try:
        root: Path | None = find(start)
    except UserError:
        root = None
    return list(
        itertools.chain(
            checks.python(),
            checks.devices(),
            checks.processor(),
            checks.memory(),
            checks.disks(root),
            checks.tools(root),
            checks.servers(),
        )
    )


def _lines(findings: Sequence[checks.Finding]) -> None:
    for what, state, found, advice in findings:
        print(f"{state:<8} {what}: {found}" + (f"; {advice}" if advice else ""))


def _table(findings: Sequence[checks.Finding]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for what, state, found, advice in findings:
        words = Text.assemble(found, *([("\n" + advice, "dim")] if advice else []))
        table.add_row(Text(state, STYLES[state]), Text(what), words)
    Console(highlight=False).print(table)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
