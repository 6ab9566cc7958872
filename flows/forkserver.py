"""A process that has imported the libraries once and forks one child for each stage; `flows/process.py` starts it.

It is not multiprocessing's own server because that one lives on for as long as a child does: a stage whose flow is
killed would never be told. Here the end of the flow ends the server, and with it the child and all that it started.

    python -m flows.forkserver DESCRIPTOR STAGES PRELOAD...
"""

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path

from flows.child import Outcome, die_with_parent, work
from flows.limits import Watch
from tasks.recipe.job import Job


def serve(flow: Connection, stages: str, preload: Sequence[str]) -> None:
    """Imports `preload`, then runs each `(job, pool, log)` that comes from the flow, until the flow is gone.

    Args:
        flow: Where jobs come from and `Outcome`s go.
        stages: The module whose `run` does a job.
        preload: Modules to import first; one that is not there costs only time later.
    """
    for name in preload:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            job, pool, log = flow.recv()
            flow.send(_run(flow, job, stages, pool, log))


def _run(flow: Connection, job: Job, stages: str, pool: str, log: Path) -> Outcome:
    """One job in a child of its own."""
    answers, answer = Pipe(duplex=False)
    server = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        flow.close()
        _child(job, stages, pool, log, answer, server)
    answer.close()
    with contextlib.suppress(OSError):  # the child does the same; whoever comes second may fail
        os.setpgid(child, child)
    try:
        return _outcome(flow, answers, child, Watch(job.stage, job.recipe.limits.of(job.stage), child))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # the child, or what it started and left behind
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)
        answers.close()


def _outcome(flow: Connection, answers: Connection, child: int, watch: Watch) -> Outcome:
    """Waits for the child, for the end of the flow, or until the child takes more than it may."""
    ended = os.pidfd_open(child)
    outcome: Outcome | None = None
    sources: list[Connection | int] = [flow, ended, answers]
    try:
        while True:
            ready = wait(sources, watch.pause)
            if flow in ready:
                raise EOFError
            if answers in ready:  # read while the child lives: a long answer would block it
                sources.remove(answers)
                with contextlib.suppress(EOFError):
                    outcome = answers.recv()
            elif ended in ready:
                break
            elif beyond := watch.beyond():
                return Outcome("limit", beyond)
    finally:
        os.close(ended)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code:
        return Outcome("killed", signal.Signals(-code).name if code < 0 else f"exit status {code}")
    return outcome or Outcome("killed", "no answer")


def _child(job: Job, stages: str, pool: str, log: Path, answer: Connection, server: int) -> None:
    """Never returns: the server's frames below belong to the server."""
    status = 1
    try:
        die_with_parent(server)
        os.setpgid(0, 0)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, 1)
        os.dup2(file, 2)
        answer.send(work(job, stages, pool))
        status = 0
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), sys.argv[2], sys.argv[3:])
    os._exit(0)  # to take all that was imported down in order takes a second or two
