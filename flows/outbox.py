"""Records that MLflow has yet to take: a note of each in the workspace, sent when it answers, and each once.

A note is written before its record is sent, so that neither a server that is away nor a kill loses when a stage began
and what ran it. What a record says is read from the stage's result, which DVC holds.
"""

import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.checks import opener
from flows.dag import Stage
from flows.database import Away
from flows.tracking import Tracker
from flows.workspace import private
from tasks.core.files import read_json, write_json

PATIENCE = 90.0
"""Seconds that the end of a run waits for a server that is away."""
POLL = 2.0


class Outbox:
    """The notes of one workspace."""

    def __init__(self, tracker: Tracker, say: Callable[[str], None]) -> None:
        """Sends what an earlier run left.

        Args:
            tracker: Where records go.
            say: Told when the server goes away, and when it is back.
        """
        self.tracker = tracker
        self.directory = private(tracker.dag.root, "outbox")
        self.directory.mkdir(exist_ok=True)
        self._say = say
        self._away = ""
        self._tried: set[Path] = set()
        self.send()

    def record(self, stage: Stage, started: float | None, by: Mapping[str, str] | None) -> None:
        """Has a stage's result recorded: now, or when the server is back.

        Args:
            stage: The stage; dvc.lock holds its result.
            started: Unix time when it began to run; None if it did not run now.
            by: Tags that say what ran it.

        Raises:
            EnvironmentFault: MLflow refuses the record, or its database is this workspace's own and fails.
        """
        note = self.directory / f"{time.time_ns()}-{stage.name}.json"
        facts = {"stage": stage.name, "params": stage.params, "started": started, "by": dict(by or {})}
        write_json(note, {**facts, "key": self.tracker.key(stage)})
        self.send()

    def send(self) -> bool:
        """Sends every note, the earliest first; whether none is left."""
        if self._away and not answers(self.tracker.uri):
            return False
        sent = 0
        for note in sorted(self.directory.glob("[0-9]*.json")):
            try:
                self._send(note)
            except Away as error:
                if not self.tracker.remote:
                    raise
                self._tried.add(note)
                if not self._away:
                    self._say(f"{error}; the run goes on, and records wait in .secateur/outbox")
                self._away = str(error)
                return False
            note.unlink()
            sent += 1
        if self._away:
            self._say(f"MLflow answers again; {sent} records sent")
            self._away = ""
        return True

    def settle(self, patience: float = PATIENCE) -> None:
        """Returns when every note is sent.

        Raises:
            EnvironmentFault: The server stays away; the next run sends them.
        """
        end = time.monotonic() + patience
        while not self.send():
            if time.monotonic() > end:
                raise Away(f"{self._away}; the records that wait in .secateur/outbox are sent by the next run")
            time.sleep(POLL)

    def _send(self, note: Path) -> None:
        said: dict[str, Any] = read_json(note)
        found = self.tracker.dag.by_name.get(said["stage"])
        stage = replace(found, params=said["params"]) if found else None
        if stage is None or self.tracker.key(stage) != said["key"]:
            self._say(f"{said['stage']} has another result by now; the record of the earlier one is not sent")
            return
        if note in self._tried:
            self.tracker.clear(stage)
        self.tracker.record(stage, said["started"], said["by"])


def answers(uri: str) -> bool:
    """Whether an MLflow server answers, asked once and quickly."""
    try:
        opener(uri).open(f"{uri.rstrip('/')}/health", timeout=3).close()
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False
    return True
