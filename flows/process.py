"""Stages as processes: each is forked from a server that has imported the libraries once, and dies with the flow."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from types import TracebackType

from flows.child import Outcome, environment
from flows.limits import Beyond
from flows.workspace import private
from tasks.core.errors import EnvironmentFault, PassingFault, UserError
from tasks.recipe.job import Job
from tasks.recipe.schema import Recipe

STAGES = "tasks.stages"
PRELOAD = (
    "torch",
    "torch.nn.attention",
    "transformers",
    "transformers.models.bert.modeling_bert",
    "transformers.models.distilbert.modeling_distilbert",
    "transformers.models.auto.tokenization_auto",
    "onnxruntime",
    "sklearn.metrics",
    "pandas",
    "onnxscript",
    "torch.export._trace",
    "torch.onnx._internal.exporter._core",
    "torch.onnx._internal.exporter._torchlib.ops",
    "onnxscript.function_libs.torch_lib.ops",
    "tasks.modeling.shrink",
    "tasks.prepare",
    "tasks.train",
    "tasks.score.sensitivity",
    "tasks.prune",
    "tasks.finetune",
    "tasks.distill",
    "tasks.evaluate.table",
    "tasks.report",
    STAGES,
)
POLL = 0.2  # seconds between two looks at the clock


AHEAD: ContextVar["Workers | None"] = ContextVar("ahead", default=None)
"""A fork server that was started before its flow, so that it imports while Prefect starts."""


class Workers:
    """The fork server of one flow; use it in a `with` block."""

    def __init__(
        self, root: Path, recipe: Recipe, resume: Sequence[str], stages: str, preload: Sequence[str] = PRELOAD
    ) -> None:
        """Starts the server; it imports while the caller goes on.

        Args:
            root: The workspace.
            recipe: What sets threads and whether the hub may be asked.
            resume: The command that goes on after a failure.
            stages: The module whose `run` does a job.
            preload: Modules that the server imports once, for all stages.
        """
        self.root = root
        self.resume = shlex.join(resume)
        self._stages, self._preload = stages, preload
        self._environment = environment(recipe)
        self._start()

    @classmethod
    def for_flow(
        cls, root: Path, recipe: Recipe, resume: Sequence[str], stages: str, preload: Sequence[str]
    ) -> "Workers":
        """The one that is AHEAD, if it was started for the same, otherwise a new one."""
        ahead = AHEAD.get()
        if ahead and (root, stages, environment(recipe)) == (ahead.root, ahead._stages, ahead._environment):
            return ahead
        return cls(root, recipe, resume, stages, preload)

    def _start(self) -> None:
        self._flow, theirs = Pipe()
        command = [sys.executable, "-m", "flows.forkserver", str(theirs.fileno()), self._stages, *self._preload]
        path = os.pathsep.join(p for p in (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")) if p)
        with private(self.root, "logs", "forkserver.log").open("wb") as log:
            self._server = subprocess.Popen(
                command,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environment, "PYTHONPATH": path},
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C is for the flow alone
            )
        theirs.close()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._flow.close()  # the server kills what still runs, and ends
        try:
            self._server.wait(5)
        except subprocess.TimeoutExpired:  # it is still importing
            self._server.kill()
            self._server.wait()

    def run(self, job: Job, pool: str, tick: Callable[[Path], None]) -> None:
        """Runs one stage and returns when its outs are there.

        Args:
            job: The stage.
            pool: `gpu` or `cpu`.
            tick: Called a few times a second with the stage's log.

        Raises:
            UserError: The stage found a mistake in what the user gave.
            PassingFault: The machine failed it, so that it may go well the next time.
            EnvironmentFault: It failed in another way; the message names it and the command that resumes.
        """
        log = private(self.root, "logs", f"{job.stage}.log")
        if self._server.poll() is not None:
            self._flow.close()
            self._start()
        try:
            self._flow.send((job, pool, log))
            outcome = _await(self._flow, log, tick)
        except (EOFError, ConnectionError):
            server = private(self.root, "logs", "forkserver.log")
            raise PassingFault(
                f"{job.stage}: the process that starts stages ended ({_tail(server)}); resume with: {self.resume}"
            ) from None
        if outcome.kind != "done":
            raise self._failure(job.stage, outcome, log)

    def _failure(self, stage: str, outcome: Outcome, log: Path) -> Exception:
        if outcome.kind == "user":
            return UserError(f"{stage}: {outcome.message}")
        resume = f"resume with: {self.resume}"
        shown = log.relative_to(self.root)
        if outcome.kind == "killed":
            memory = "; the system does that when memory runs out" if outcome.message == "SIGKILL" else ""
            return PassingFault(f"{stage} was killed ({outcome.message}{memory}); {resume}")
        if outcome.kind == "bug":
            sys.stderr.write(log.read_text(encoding="utf-8", errors="replace"))
            return EnvironmentFault(f"{stage} failed: {outcome.message} (see {shown}); {resume}")
        if outcome.kind == "limit":
            return Beyond(f"{stage} {outcome.message}; {resume}")
        return PassingFault(f"{stage}: {outcome.message}; put that right and {resume}")


def _await(flow: Connection, log: Path, tick: Callable[[Path], None]) -> Outcome:
    while not flow.poll(POLL):
        tick(log)
    outcome: Outcome = flow.recv()
    return outcome


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "without a word"
