"""What is printed of decisions: one as it is made, and all of them.

secateur history --json
"""

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from flows.promotion import promote as work
from flows.promotion.record import decisions
from flows.promotion.transaction import CHAMPION, Record, recover
from flows.workspace import locked

WIDTH = 120


def promote(root: Path, model: str | None) -> int:
    """Promotes or refuses; the exit status: 0 if the model is the champion now, 1 if not."""
    record = work.promote(root, model)
    if record is None:
        print("that model is the champion already")
        return 0
    for check in record["checks"]:
        print(f"  {'ok' if check['met'] else 'missed':<7} {check['name']}: {check['because']}")
    _outcome(record)
    return 0 if record["decision"] == "promotion" else 1


def rollback(root: Path, because: str) -> int:
    """Goes back to the previous champion; the exit status: 1 if that had to be abandoned."""
    record = work.rollback(root, because)
    _outcome(record)
    return 0 if record["decision"] == "rollback" else 1


def history(root: Path, as_json: bool) -> None:
    """Every decision, the earliest first; one that was cut off is finished before."""
    with locked(root):
        recover(root)
    found = decisions(root)
    if as_json:
        print(json.dumps(found, indent=2, sort_keys=True))
        return
    if not found:
        print("no decision yet; make one with: secateur promote")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("time", "decision", "model", "version", "champion", "by", "because"):
        table.add_column(name, overflow="fold", no_wrap=name in ("time", "decision", "model", "version"))
    for record in found:
        model = record["model"]
        champion = str(record["after"][CHAMPION] or "none")
        cells = (record["time"][:16], record["decision"], model["path"], model["version"], champion)
        table.add_row(*cells, record["by"].partition(" <")[0], record["because"])
    Console(width=None if Console().is_terminal else WIDTH, highlight=False).print(table)


def _outcome(record: Record) -> None:
    model = record["model"]
    what = f"{record['decision']} of {model['path']} (version {model['version']} of {model['name']})"
    print(f"{what}: {record['because']}")
    print(f"the champion is version {record['after'][CHAMPION] or 'none'}; record {record['id']}")
