"""`secateur stage NAME`, the command in dvc.yaml: the work of one stage, without Prefect, MLflow or a DVC commit."""

import os
from pathlib import Path

from flows.child import die_with_parent, environment, work
from flows.workspace import PIPELINE
from tasks.core.errors import EnvironmentFault, UserError
from tasks.recipe.load import read


def stage(root: Path, name: str, stages: str = "tasks.stages") -> None:
    """Runs a stage in this very process, which dies with the one that called it. `dvc repro` may hold its locks.

    Args:
        root: The workspace.
        name: The stage's name in dvc.yaml, with its item: `prune@r1`.
        stages: The module whose `run` does the work.

    Raises:
        UserError: There is no such stage, or the stage found a mistake of the user.
        EnvironmentFault: It failed in another way.
    """
    die_with_parent(os.getppid())
    os.environ.update(environment(read(root / PIPELINE)))
    os.chdir(root)
    from flows.dag import Dag  # after the variables are set: DVC imports numpy

    dag = Dag(root)
    outcome = work(dag.job(name), stages, dag.stage(name).pool)
    if outcome.kind == "user":
        raise UserError(f"{name}: {outcome.message}")
    if outcome.kind != "done":
        raise EnvironmentFault(f"{name}: {outcome.message}; resume with: dvc repro")
