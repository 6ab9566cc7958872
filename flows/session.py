"""What one run of the pipeline holds, from the lock to the last record; and a stage's way through it."""

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from flows import repair
from flows.dag import Dag
from flows.process import Workers
from flows.progress import Progress
from flows.request import Request
from flows.workspace import JOURNAL, PIPELINE, check, locked, private, write
from tasks.core.errors import EnvironmentFault, UserError
from tasks.recipe.load import dump, resolve

if TYPE_CHECKING:
    from flows.outbox import Outbox
    from flows.tracking import Tracker

Way = Literal["unchanged", "restored", "run"]


class Session:
    """One run: the stages, and what each of them needs to run. Made by `opened`."""

    def __init__(self, request: Request, dag: Dag, progress: Progress) -> None:
        """Ties the parts together; nothing runs yet."""
        self.request = request
        self.dag = dag
        self.progress = progress
        self.workers: Workers | None = None
        self.forced = _forced(dag, request.force)
        self._begun = dag.roots()
        self._restored = False

    @cached_property
    def tracker(self) -> "Tracker":
        """MLflow, with what a kill left running put right; imported only now, for it takes seconds."""

        from flows.tracking import Tracker

        tracker = Tracker(self.dag)
        tracker.reap()
        return tracker

    @cached_property
    def outbox(self) -> "Outbox":
        """The way to MLflow while a run goes on: it may be away for a while."""
        from flows.outbox import Outbox

        return Outbox(self.tracker, self.progress.say)

    def settled(self, name: str) -> Way | None:
        """How a stage is up to date without running: unchanged, or restored from DVC's cache. None: it must run."""
        if name in self.forced:
            return None
        if not self.dag.changed(name):
            return "unchanged"
        if self.dag.restore(name):
            repair.keep_lock(self.dag.root)
            self._restored = True
            self.progress.say(f"{name} … restored")
            return "restored"
        return None

    def first_to_run(self) -> str | None:
        """The first stage that must run; all before it are up to date afterwards. None if there is none."""
        if not self.forced and not self.dag.changed():
            return None
        return next((stage.name for stage in self.dag.stages if not self.settled(stage.name)), None)

    def finish(self, name: str, way: Way | None, by: Mapping[str, str] | None = None) -> Way:
        """Runs a stage that is not up to date in any way, and sees to its record.

        Args:
            name: The stage.
            way: How it is up to date, if it is.
            by: Tags of the record that say what ran it.
        """
        stage = self.dag.stage(name)
        started = None
        if not way:
            started = time.time()
            with self.progress.stage(name) as tick, self.dag.reserved(name):
                self._workers().run(self.dag.job(name), stage.pool, tick)
                self._same_inputs(name)
                self.dag.commit(name)
            self.forced.discard(name)
            repair.keep_lock(self.dag.root)
        self.outbox.record(stage, started, by)
        return way or "run"

    def record(self) -> None:
        """Logs what has no record yet, such as the results of a `dvc repro`; of a state restored, what is current."""
        self.outbox.send()  # what waits there knows when a stage ran, and in which flow run
        for stage in self.dag.stages if self._restored else self.tracker.missing():
            self.tracker.record(stage)

    def _workers(self) -> Workers:
        if not self.workers:
            raise EnvironmentFault("no process that starts stages")
        return self.workers

    def _same_inputs(self, name: str) -> None:
        """Refuses a result whose code or source changed while it was made: its record would be a lie."""
        now = self.dag.roots(name)
        moved = [path for path, digest in now.items() if digest != self._begun.get(path)]
        if moved:
            raise EnvironmentFault(
                f"{', '.join(moved)} changed while the pipeline ran, so what {name} made is not kept; "
                f"run again with: {shlex.join(self.request.command)}"
            )


@contextmanager
def opened(request: Request, progress: Progress) -> Iterator[Session]:
    """Holds the workspace for a run: recipe checked and written, leftovers of a kill put right, MLflow at hand.

    Raises:
        UserError: Mistakes in the recipe, the workspace or dvc.yaml; nothing was written.
        EnvironmentFault: Another run holds the workspace, or a service fails.
    """
    recipe = resolve(request.recipe, request.overrides)
    check(request.root)
    for section, source in (("model", recipe.model.source), ("data", recipe.data.source)):
        if "://" not in source and not (request.root / source).exists():
            raise UserError(f"{section}.source: {source} is not there; give a file or directory, hf://… or pypi://…")
    with locked(request.root), chdir(request.root):  # DVC looks for stages from the current directory
        repair.before_reading(request.root)
        _finish_decision(request.root)
        write(request.root / PIPELINE, dump(recipe))
        dag = Dag(request.root)
        repair.outs(dag)
        repair.strangers(dag)
        yield Session(request, dag, progress)


@contextmanager
def working(session: Session) -> Iterator[Session]:
    """A session whose stages can run: with a fork server, and a run in MLflow that says how it ended."""
    request = session.request
    session.tracker.open()
    ended = "KILLED"
    try:
        with Workers.for_flow(
            request.root, session.dag.recipe, request.command, request.stages, request.preload
        ) as workers:
            session.workers = workers
            yield session
        session.outbox.settle()
        ended = "FINISHED"
    except Exception:
        ended = "FAILED"
        raise
    finally:
        session.workers = None
        _close(session, ended)


def _close(session: Session, ended: str) -> None:
    """The end in MLflow; where that is away too, what went wrong before is what the user is told."""
    from flows.database import Away

    try:
        session.tracker.close(ended)
    except Away:
        if ended == "FINISHED":
            raise


def _finish_decision(root: Path) -> None:
    """A promotion that was cut off is finished before anything else changes."""
    if private(root, JOURNAL).is_file():
        from flows.promotion.transaction import recover

        recover(root)


def _forced(dag: Dag, names: Sequence[str]) -> set[str]:
    unknown = [name for name in names if not any(name in (stage.name, stage.group) for stage in dag.stages)]
    if unknown:
        raise UserError(f"--force {', '.join(unknown)}: no such stage; dvc.yaml has {', '.join(dag.by_name)}")
    return {stage.name for stage in dag.stages if stage.name in names or stage.group in names}
