"""Records that MLflow has yet to take: a note of each in the workspace, sent when it answers, and each once.

A note is written before its record is sent, so that neither a server that is away nor a kill loses when a stage began
and what ran it. What a record says is read from the stage's result, which DVC holds.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.dag import Stage
from flows.database import Away
from flows.sending import Sending
from flows.tracking import Tracker
from flows.workspace import private
from tasks.core.files import read_json, write_json


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
        self._tried: set[Path] = set()
        meanwhile = "the run goes on, and records wait in .secateur/outbox"
        self._sending = Sending(tracker.uri, self._notes, meanwhile, say)
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

    def send(self) -> None:
        """Sends every note, the earliest first, as far as the server answers."""
        self._sending.send()

    def settle(self) -> None:
        """Returns when every note is sent.

        Raises:
            EnvironmentFault: The server stays away; the next run sends them.
        """
        self._sending.settle("the records that wait in .secateur/outbox are sent by the next run")

    def _notes(self) -> None:
        for note in sorted(self.directory.glob("[0-9]*.json")):
            try:
                self._note(note)
            except Away:
                self._tried.add(note)
                raise
            note.unlink()

    def _note(self, note: Path) -> None:
        said: dict[str, Any] = read_json(note)
        found = self.tracker.dag.by_name.get(said["stage"])
        stage = replace(found, params=said["params"]) if found else None
        if stage is None or self.tracker.key(stage) != said["key"]:
            self._say(f"{said['stage']} has another result by now; the record of the earlier one is not sent")
            return
        if note in self._tried:
            self.tracker.clear(stage)
        self.tracker.record(stage, said["started"], said["by"])
