"""What MLflow holds of a chain: the record of each stage's result, and the versions of registered models."""

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from flows.database import asking, connect
from flows.facts import key
from flows.lineage.state import Entry
from tasks.core.errors import EnvironmentFault, UserError

PAGE = 1000
MODELS = "models:/"
GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


class Records:
    """The experiment of one recipe, and the registry."""

    def __init__(self, root: Path, experiment: str) -> None:
        """Reads nothing yet."""
        self.root = root
        self.experiment = experiment

    @cached_property
    def client(self) -> MlflowClient:
        """Of the workspace's server or database."""
        return connect(self.root)

    @cached_property
    def runs(self) -> list[Any]:
        """Every record of a stage."""
        found: list[Any] = []
        token = None
        experiment = self.client.get_experiment_by_name(self.experiment)
        while experiment:
            page = self.client.search_runs([experiment.experiment_id], "", max_results=PAGE, page_token=token)
            found += [run for run in page if "key" in run.data.tags]
            token = page.token
            if not token:
                break
        return found

    def of(self, entry: Entry, here: Mapping[str, str | None] | None = None) -> Any | None:
        """The record of a stage's result; if there is none, one of the stage that has the same out.

        Args:
            entry: The stage, with its outs in dvc.lock.
            here: md5 of its outs as they lie there, which count too.
        """
        wanted = key(entry.name, entry.params, entry.hashes)
        same = [run for run in self.runs if run.data.tags["key"] == wanted]
        made = {*entry.outs.items(), *(here or {}).items()}
        like = [run for run in self.runs if run.info.run_name == entry.name and made & set(outs(run).items())]
        return next(iter([*same, *like]), None)

    def decision(self, identity: str) -> Any | None:
        """The record of a decision; None if there is none."""
        experiment = self.client.get_experiment_by_name(self.experiment)
        ids = [experiment.experiment_id] if experiment else []
        found = self.client.search_runs(ids, f"tags.decision = '{identity}'") if ids else []
        said = self.file(found[0].info.run_id, "record.json") if found else None
        return json.loads(said) if said else None

    def file(self, run: str, path: str) -> bytes | None:
        """A file attached to a record; None if it is not."""
        with TemporaryDirectory() as into:
            try:
                return Path(self.client.download_artifacts(run, path, into)).read_bytes()
            except (MlflowException, OSError):
                return None

    def download(self, version: Any, into: str) -> str:
        """The files of a registered version, copied into a directory.

        Raises:
            EnvironmentFault: They are not there, or MLflow fails.
        """
        from mlflow.artifacts import download_artifacts

        try:
            with asking(self.client.tracking_uri):
                return str(download_artifacts(artifact_uri=version.source, dst_path=into))
        except (MlflowException, OSError) as error:
            raise EnvironmentFault(f"the files of {version.name} version {version.version}: {error}") from error

    def version(self, uri: str) -> Any:
        """The registered version that `models:/NAME@ALIAS` or `models:/NAME/VERSION` names.

        Raises:
            UserError: There is none; says which names there are.
        """
        words = uri.removeprefix(MODELS)
        name, at, alias = words.rpartition("@") if "@" in words else words.rpartition("/")
        try:
            if at == "@":
                return self.client.get_model_version_by_alias(name, alias)
            return self.client.get_model_version(name, alias)
        except MlflowException as error:
            if error.error_code not in GONE:
                raise EnvironmentFault(f"MLflow failed: {error.message}") from error
            known = [
                f"{MODELS}{model.name}@{alias}"
                for model in self.client.search_registered_models()
                for alias in model.aliases
            ]
            raise UserError(f"{uri}: no such registered model; there are: {', '.join(known) or 'none'}") from None


def outs(run: Any) -> dict[str, str]:
    """md5 of a record's outs by path."""
    tags = run.data.tags.items()
    return {tag.removeprefix("out."): value for tag, value in tags if tag.startswith("out.")}
