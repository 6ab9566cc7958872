"""Whether new data are fit to be trained with: held against those of the champion, and recorded in MLflow."""

import json
from dataclasses import asdict
from pathlib import Path

from mlflow import MlflowClient

from flows.database import address, connect, words
from flows.promotion import champion
from flows.promotion.gate import Check
from flows.promotion.transaction import CHAMPION, aliases
from flows.tracking import experiment_of
from flows.workspace import identity
from tasks.core.files import tree_hash
from tasks.drift import Finding, compare
from tasks.recipe.schema import Recipe

RUN_NAME = "mlflow.runName"


class Unfit(Exception):
    """The data are not what a model may be trained with unseen."""

    def __init__(self, checks: list[Check]) -> None:
        """Keeps all that was found."""
        super().__init__("; ".join(check.because for check in checks if not check.met))
        self.checks = checks


def checked(root: Path, source: Path, recipe: Recipe, flow_run: str | None) -> list[Check]:
    """What was found of the data.

    Args:
        root: The workspace.
        source: The data as they were fetched.
        recipe: What they are to be.
        flow_run: Id of the Prefect flow run that asks.

    Raises:
        Unfit: They are too far from the champion's.
        UserError: They do not have the form that the recipe says.
        PassingFault: The champion's data cannot be had, or MLflow fails.
    """
    client = connect(root)
    with words(address(root)):
        version = aliases(client, recipe.name)[CHAMPION]
    if version is None:
        found = compare(source, recipe.data, recipe.task, recipe.seed, None, recipe.retrain)
    else:
        with words(address(root)), champion.data(root, recipe.name, version) as before:
            found = compare(source, recipe.data, recipe.task, recipe.seed, before, recipe.retrain)
    checks = [_check(one) for one in found]
    with words(address(root)):
        _record(client, root, recipe.name, tree_hash(source), version, checks, flow_run)
    if not all(check.met for check in checks):
        raise Unfit(checks)
    return checks


def _check(one: Finding) -> Check:
    return Check(f"data {one.name}", one.met, one.reached, one.limit, one.because)


def _record(
    client: MlflowClient,
    root: Path,
    name: str,
    sha256: str,
    champion: str | None,
    checks: list[Check],
    flow_run: str | None,
) -> None:
    """A run of its own, whatever came out; the same data against the same champion have one."""
    experiment = experiment_of(client, root, name, address(root))
    tags = {"data.sha256": sha256, "data.champion": champion or "none"}
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    found = client.search_runs([experiment], query)
    met = "fit" if all(check.met for check in checks) else "unfit"
    also = {"workspace": identity(root), "prefect.flow_run": flow_run or "", "data.outcome": met}
    run = found[0] if found else client.create_run(experiment, tags={**tags, **also, RUN_NAME: f"data {met}"})
    client.log_text(run.info.run_id, json.dumps([asdict(check) for check in checks], indent=2), "data_check.json")
    client.set_terminated(run.info.run_id, "FINISHED")
