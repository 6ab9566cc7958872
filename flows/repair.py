"""Puts right what a kill leaves behind: locks, a lock file cut off, directories between two names, outs of no stage."""

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from dvc.exceptions import DvcException
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from dvc.utils.serialize import parse_yaml
from voluptuous import Invalid

from flows import gitlocks
from flows.dag import Dag
from flows.workspace import private, write
from tasks.core.errors import EnvironmentFault

LOCK = "dvc.lock"


def before_reading(root: Path) -> None:
    """Makes dvc.yaml and dvc.lock readable again. The caller holds the workspace.

    Raises:
        EnvironmentFault: A `dvc repro` or a git is at work here.
    """
    gitlocks.free(root)
    _free_rwlock(root / ".dvc" / "tmp" / "rwlock")
    for entry in (root / ".dvc" / "cache" / "runs").glob("*/*"):
        with contextlib.suppress(OSError):  # it is not empty, as it should be; DVC fails on one that is
            entry.rmdir()
    lock, copy = root / LOCK, private(root, LOCK)
    if lock.is_file() and _lock(lock) is None:
        lock.replace(private(root, f"{LOCK}.damaged"))
        if copy.is_file() and _lock(copy) is not None:
            write(lock, copy.read_text(encoding="utf-8"))


def keep_lock(root: Path) -> None:
    """Keeps a copy of dvc.lock, which DVC overwrites in place: a kill may cut it off."""
    if _lock(root / LOCK) is not None:
        write(private(root, LOCK), (root / LOCK).read_text(encoding="utf-8"))


def outs(dag: Dag) -> None:
    """Removes half-written outs; of an out that was being replaced, brings back the old one if there is no new."""
    for path in (dag.root / out for stage in dag.stages for out in stage.outs):
        old = path.with_name(f".{path.name}.old")
        if old.exists() and not path.exists():
            old.replace(path)
    for parent in {(dag.root / out).parent for stage in dag.stages for out in stage.outs}:
        for pattern in (".*.partial", ".*.old"):
            for left in parent.glob(pattern):
                _remove(left)


def strangers(dag: Dag) -> None:
    """Removes outs of stages that the recipe no longer has, such as a third round: `models` is an input as a whole.

    Only what dvc.lock lists goes, so it is in DVC's cache and comes back with the stage.
    """
    mine = {Path(out) for stage in dag.stages for out in stage.outs}
    for name, entry in ((_lock(dag.root / LOCK) or {}).get("stages") or {}).items():
        if name not in dag.by_name:
            for path in (Path(out["path"]) for out in entry.get("outs", [])):
                overlaps = any(path == out or path in out.parents or out in path.parents for out in mine)
                if not overlaps and not path.is_absolute() and ".." not in path.parts:
                    _remove(dag.root / path)


def _lock(path: Path) -> dict[str, Any] | None:
    """What a dvc.lock says; None if it is not there or not whole."""
    try:
        found = parse_yaml(path.read_text(encoding="utf-8"), str(path))
        COMPILED_LOCKFILE_SCHEMA(found)
    except (OSError, UnicodeDecodeError, DvcException, Invalid):
        return None
    return dict(found) if found else None


def _free_rwlock(path: Path) -> None:
    """Removes the record of who reads and writes which out, if whoever it names is gone."""
    for _ in range(5):  # whoever is just writing it is soon done
        try:
            holders = list(_holders(json.loads(path.read_text(encoding="utf-8"))))
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError, AttributeError):
            time.sleep(0.1)
            continue
        alive = [holder for holder in holders if _alive(holder)]
        if alive:
            raise EnvironmentFault(
                f"dvc is at work in this workspace (process {alive[0]['pid']}: {alive[0]['cmd']}); wait for it to end"
            )
        break
    path.unlink(missing_ok=True)


def _holders(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from record.get("write", {}).values()
    for readers in record.get("read", {}).values():
        yield from readers


def _alive(holder: dict[str, Any]) -> bool:
    """Whether that process runs, and is not another one that got its number."""
    with contextlib.suppress(psutil.Error):
        words = str(holder["cmd"]).split()
        return not words or words[-1] in psutil.Process(int(holder["pid"])).cmdline()
    return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
