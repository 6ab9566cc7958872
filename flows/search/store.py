"""What trials have in common is made once: outs by the hash of all that they are made of, under a lock each."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from flows.search.jobs import is_done
from flows.search.place import alone
from flows.search.stages import MOMENTS, TABLE
from tasks.core.errors import UserError
from tasks.core.files import replace
from tasks.recipe.job import Job

GIVEN = ("prepare",)
"""Those that no trial has a say in."""
COMMON = ("prepare", "train", "score@r1", "table@dense", MOMENTS, TABLE)
"""Stages that most trials share; what comes after is a trial's own."""


class NotTheirs(Exception):
    """A mistake that was met in a trial and is none of its settings'."""

    def __init__(self, mistake: UserError) -> None:
        super().__init__(str(mistake))
        self.mistake = mistake


def ensure(job: Job, shared: Path, others: Sequence[Path], work: Callable[[Job], None]) -> bool:
    """Sees to it that the outs of `job` are there; says whether it had to do the work.

    Args:
        job: In the view of a trial.
        shared: Where outs of common stages are kept.
        others: Roots whose outs may be the same: of earlier levels of the trial, the workspace.
        work: Does a job.

    Raises:
        NotTheirs: A stage before all that a trial varies found a mistake.
    """
    if is_done(job, job.root):
        return False
    for root in others:
        if is_done(job, root):
            _take(job, root, copy=True)
            return False
    if job.stage not in COMMON:
        work(job)
        return True
    key = job.scratch().name  # it names inputs, code and params
    with alone(shared / f"{key}.lock"):
        if not is_done(job, shared / key):
            try:
                work(job)
            except UserError as mistake:
                raise NotTheirs(mistake) if job.stage in GIVEN else mistake from None
            _give(job, shared / key)
            return True
    _take(job, shared / key, copy=False)
    return False


def _take(job: Job, root: Path, *, copy: bool) -> None:
    for out in job.outs:
        _publish(root / out, job.root / out, copy=copy)


def _give(job: Job, home: Path) -> None:
    for out in job.outs:
        _publish(job.root / out, home / out, copy=False)


def _publish(source: Path, out: Path, *, copy: bool) -> None:
    """The directory `source` under another name too, whole or not at all; without `copy` its files are shared.

    Nothing writes to a file of a finished out, but DVC may to one of the workspace.
    """
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial, copy_function=shutil.copy2 if copy else os.link)
    replace(partial, out)
