"""A decision kept in three places, MLflow, a file and git, whatever is killed on the way.

The record is written ahead; then each step is taken, all of which can be taken twice; the next command finishes what a
kill cut off. A decision that can no longer be carried out, for others changed the registry, is recorded as abandoned.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from flows import git, gitlocks
from flows.database import connect
from flows.promotion import record
from flows.workspace import JOURNAL, private, write
from tasks.core.errors import EnvironmentFault
from tasks.core.files import read_json

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
ALIASES = (PREVIOUS, CHAMPION, CHALLENGER)
"""In the order they are set: whoever looks meanwhile finds a champion."""
RUN_NAME = "mlflow.runName"
GONE = "RESOURCE_DOES_NOT_EXIST"
Record = dict[str, Any]


class Overtaken(Exception):
    """The registry is no longer as the decision found it."""


def carry_out(root: Path, decision: Record) -> Record:
    """Keeps a decision and makes it so. The caller holds the workspace.

    Args:
        root: The workspace.
        decision: The record; `before` and `after` are the versions of the aliases.

    Returns:
        The record as it was kept: `abandoned`, if others changed the registry meanwhile.

    Raises:
        EnvironmentFault: A step failed; the record is safe, and the next command goes on with it.
    """
    _ahead(root, decision)
    return _finish(root, decision)


def recover(root: Path) -> Record | None:
    """Finishes a decision that a kill or a fault cut off; None if there is none. The caller holds the workspace."""
    file = private(root, JOURNAL)
    if not file.is_file():
        return None
    gitlocks.free(root)  # the kill may have hit the commit
    return _finish(root, read_json(file))


def aliases(client: MlflowClient, name: str) -> dict[str, str | None]:
    """The versions that a model's aliases name; none of a model that was never submitted."""
    try:
        found = client.get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code != GONE:
            raise
        found = {}
    return {alias: str(found[alias]) if alias in found else None for alias in ALIASES}


def _finish(root: Path, decision: Record) -> Record:
    try:
        client = connect(root)
        try:
            set_aliases(client, decision)
        except Overtaken as error:
            decision = {**decision, "decision": "abandoned", "because": str(error), "after": decision["before"]}
            _ahead(root, decision)
        log(client, decision)
    except MlflowException as error:
        raise EnvironmentFault(f"MLflow failed: {error.message}; {_resume(decision)}") from error
    try:
        keep(root, decision)
    except EnvironmentFault as error:
        raise EnvironmentFault(f"{error}; {_resume(decision)}") from error
    private(root, JOURNAL).unlink()
    return decision


def set_aliases(client: MlflowClient, decision: Record) -> None:
    """Makes the registry's aliases those after the decision.

    Raises:
        Overtaken: They are neither those before nor those after it, or a version is gone.
    """
    name, after = decision["model"]["name"], decision["after"]
    now = aliases(client, name)
    for alias in ALIASES:
        if now[alias] not in (decision["before"][alias], after[alias]):
            raise Overtaken(f"{alias} of {name} became version {now[alias]} meanwhile")
    for version in filter(None, after.values()):
        _exists(client, name, version)
    for alias in ALIASES:
        if after[alias] and now[alias] != after[alias]:
            client.set_registered_model_alias(name, alias, after[alias])
        elif now[alias] and not after[alias]:
            client.delete_registered_model_alias(name, alias)


def log(client: MlflowClient, decision: Record) -> None:
    """The record as a run of its own in MLflow, and by its name on the version; once."""
    name, identity = decision["model"]["name"], decision["id"]
    experiment = client.get_experiment_by_name(decision["experiment"])
    found = client.search_runs([experiment.experiment_id], f"tags.decision = '{identity}'")
    tags = {"decision": identity, "kind": decision["decision"], RUN_NAME: f"{decision['decision']} {identity}"}
    run = found[0] if found else client.create_run(experiment.experiment_id, tags=tags)
    if run.info.status != "FINISHED":
        client.log_dict(run.info.run_id, decision, "record.json")
        client.set_terminated(run.info.run_id, "FINISHED")
    client.set_model_version_tag(
        name, decision["model"]["version"], f"decision.{identity}", f"{decision['decision']}, run {run.info.run_id}"
    )


def keep(root: Path, decision: Record) -> None:
    """The record as a file, and in one commit with what `decision["committed"]` lists."""
    file = record.path(root, decision["id"])
    write(file, text(decision))
    paths = [path for path in decision["committed"] if (root / path).is_file()]
    words = f"{decision['decision'].capitalize()} of {decision['model']['path']} ({decision['id']})"
    git.commit(root, [file.relative_to(root).as_posix(), *paths], words)


def text(decision: Mapping[str, Any]) -> str:
    """A record as it is kept."""
    return json.dumps(decision, indent=2, sort_keys=True) + "\n"


def _exists(client: MlflowClient, name: str, version: str) -> None:
    try:
        client.get_model_version(name, version)
    except MlflowException as error:
        if error.error_code != GONE:
            raise
        raise Overtaken(f"version {version} of {name} is gone") from None


def _ahead(root: Path, decision: Record) -> None:
    """The write-ahead record; on the disk, not only on its way there."""
    file = private(root, JOURNAL)
    write(file, text(decision))
    for place in (file, file.parent):
        descriptor = os.open(place, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _resume(decision: Record) -> str:
    return f"the {decision['decision']} is kept and will be finished by: secateur history"
