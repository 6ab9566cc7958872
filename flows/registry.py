"""Registered models: which results of a pipeline are models, and each of them in MLflow's registry once."""

import json
from collections.abc import Iterator
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException

from flows.dag import Dag, Stage
from flows.database import asking
from tasks.core.files import read_json

GOOD = ("continue", "met")
WEIGHTS = ("*.safetensors", "*.onnx")
ALIAS = "current"  # MLflow keeps `latest` for the version made last, which may be of an older state


def publications(dag: Dag, stage: Stage) -> Iterator[tuple[str, str]]:
    """The label and the directory of every model that is final once `stage` is done."""
    if stage.name == "train":
        yield from _if_model(dag, "dense", "models/dense")
    elif stage.name == "distill":
        yield from _if_model(dag, "student", "models/student")
    elif stage.group == "quantize":
        yield from _if_model(dag, f"quantized-{stage.name.partition('@')[2]}", stage.outs[0])
    elif stage.name == "evaluate@test":  # by then every round has its verdict
        last = last_good_round(dag.root, dag.items("finetune"))
        if last:
            yield from _if_model(dag, "pruned", f"models/rounds/{last}")


def last_good_round(root: Path, rounds: tuple[str, ...]) -> str | None:
    """The last round that kept the budget's quality; None if none did, and the dense model stands."""
    states = {name: _state(root / "data" / "rounds" / name / "verdict.json") for name in rounds}
    good = [name for name in rounds if states[name] in GOOD]
    return good[-1] if good else None


def _state(verdict: Path) -> str | None:
    try:
        return str(read_json(verdict)["state"])
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
        return None


def _if_model(dag: Dag, label: str, out: str) -> Iterator[tuple[str, str]]:
    """A stage that the recipe switches off leaves an out without weights."""
    if any(next((dag.root / out).rglob(pattern), None) for pattern in WEIGHTS):
        yield label, out


class Registry:
    """The registered models of one recipe: `NAME-dense`, `NAME-pruned`, `NAME-student`, `NAME-quantized-…`."""

    def __init__(self, client: MlflowClient, uri: str, experiment: str, recipe: str) -> None:
        """Uses `client` of `uri`; registers models of `experiment` under names that begin with `recipe`."""
        self._client = client
        self._uri = uri
        self._experiment = experiment
        self._recipe = recipe

    def publish(self, label: str, directory: Path, run: str, facts: dict[str, str]) -> None:
        """Makes a model directory the current version of its registered model.

        A version with the same content is not made again; the alias goes to it.

        Args:
            label: What kind of model: dense, pruned, student, quantized-….
            directory: The model.
            run: The record of the stage that made it.
            facts: Tags: stage, out_md5, code_hash, parents.
        """
        name = f"{self._recipe}-{label}"
        version = self._registered(name, directory, run, facts, "out_md5")
        aliases = self._client.get_registered_model(name).aliases
        if str(aliases.get(ALIAS)) != version:
            self._client.set_registered_model_alias(name, ALIAS, version)

    def submit(self, directory: Path, run: str, facts: dict[str, str]) -> str:
        """A version of the model that the recipe is all about, for the gate to judge; the same content has the same.

        Args:
            directory: The model, as it is delivered.
            run: The record of the stage that made it.
            facts: Tags; `sha256` names the content.
        """
        return self._registered(self._recipe, directory, run, facts, "sha256")

    def _registered(self, name: str, directory: Path, run: str, facts: dict[str, str], by: str) -> str:
        """The version with these files; `by` is the tag that names them."""
        self._make(name)
        for version in self._client.search_model_versions(f"name = '{name}'"):
            if version.tags.get(by) == facts[by]:
                return str(version.version)
        model = self._uploaded(name, directory, run, facts, by)
        with asking(self._uri):
            made = self._client.create_model_version(
                name, source=f"models:/{model}", run_id=run, tags=facts, model_id=model
            )
        return str(made.version)

    def _make(self, name: str) -> None:
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _uploaded(self, name: str, directory: Path, run: str, facts: dict[str, str], by: str) -> str:
        """The id of a logged model with these files: one whose upload was complete, or a new one."""
        query = f"name = '{name}' AND tags.{by} = '{facts[by]}'"
        for model in self._client.search_logged_models([self._experiment], query):
            if model.status == LoggedModelStatus.READY:
                return str(model.model_id)
            self._client.delete_logged_model(model.model_id)  # the upload was cut off
        model = self._client.create_logged_model(self._experiment, name=name, source_run_id=run, tags=facts)
        self._client.log_model_artifacts(model.model_id, str(directory))
        self._client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        return str(model.model_id)
