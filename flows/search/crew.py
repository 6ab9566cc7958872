"""The worker processes of a search on this machine, and what becomes of the trials of one that dies."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from optuna.storages import fail_stale_trials
from optuna.study import Study
from optuna.trial import TrialState

from flows.search.place import Place
from flows.search.storage import WORKER, requeue, requeue_silent
from flows.search.worker import ERROR
from flows.workspace import identity
from tasks.core.errors import EnvironmentFault, UserError
from tasks.recipe.schema import Recipe


class Crew:
    """Up to so many workers, as long as trials wait; use it in a `with` block, which no worker outlives."""

    def __init__(
        self,
        place: Place,
        recipe: Recipe,
        study: Study,
        size: int,
        deadline: float | None,
        command: Sequence[str],
        stages: str,
    ) -> None:
        """Starts nobody yet.

        Args:
            place: The search's.
            recipe: Says how often a trial is taken up again.
            study: Whose trials they do.
            size: Most workers at once.
            deadline: Unix time after which no trial is begun.
            command: What goes on after a failure.
            stages: The module whose `run` does a stage's work.
        """
        self.place, self.recipe, self.study, self.size = place, recipe, study, size
        self.deadline = math.inf if deadline is None else deadline
        self.command, self.stages = list(command), stages
        self.workers: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Crew":
        requeue(self.study, f"{identity(self.place.root)}:", self.recipe.search.retries)  # of a search that was killed
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for worker in self.workers.values():
            worker.kill()
            worker.wait()
        requeue(self.study, f"{identity(self.place.root)}:", self.recipe.search.retries)

    def look(self) -> bool:
        """Replaces workers that died, puts their trials back; says whether there is more to wait for.

        Raises:
            UserError: A worker found a mistake of the user.
            EnvironmentFault: A worker's machine or a stage failed.
        """
        search = self.recipe.search
        for number, worker in list(self.workers.items()):
            if worker.poll() is not None:
                del self.workers[number]
                self._ended(number, worker)
        fail_stale_trials(self.study)
        requeue_silent(self.study, search.heartbeat, search.retries)
        trials = self.study.get_trials(deepcopy=False)
        waiting = sum(trial.state == TrialState.WAITING for trial in trials)
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        mine = sum(trial.user_attrs.get(WORKER, "").startswith(f"{identity(self.place.root)}:") for trial in running)
        late = time.time() >= self.deadline
        if not late:
            for number in range(self.size):
                if number not in self.workers and len(self.workers) < waiting + mine:
                    self.workers[number] = self._start(number)
        return bool(self.workers) or (not late and bool(waiting or running))

    def _start(self, number: int) -> "subprocess.Popen[bytes]":
        words = [str(self.place.root), self.place.name, str(number), str(self.deadline), self.stages, *self.command]
        path = os.pathsep.join(p for p in (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")) if p)
        with (self.place.worker(str(number)) / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "flows.search.worker", *words],
                cwd=self.place.root,
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the search alone
            )

    def _ended(self, number: int, worker: "subprocess.Popen[bytes]") -> None:
        requeue(self.study, f"{identity(self.place.root)}:{worker.pid}", self.recipe.search.retries)
        if worker.returncode <= 0:  # out of work, or killed: the next look starts another if one is needed
            return
        error, log = self.place.worker(str(number)) / ERROR, self.place.worker(str(number)) / "log"
        kind, _, message = error.read_text(encoding="utf-8").partition("\n") if error.is_file() else ("", "", "")
        if kind == UserError.__name__:
            raise UserError(message)
        raise EnvironmentFault(message or f"a worker failed; see {log.relative_to(self.place.root)}")
