"""MLflow: a run per state of the pipeline, a record below it per stage and result; logging twice changes nothing."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag

from flows import measurements
from flows.dag import Dag, Stage
from flows.database import address, connect, words
from flows.facts import facts, is_code, key
from flows.reaping.records import reap
from flows.redact import redacted
from flows.registry import Registry, publications
from flows.workspace import identity, private

BATCH = 100  # params or tags of one request; metrics may be ten times as many
PARENT = "mlflow.parentRunId"
RUN_NAME = "mlflow.runName"


class Tracker:
    """The records of one workspace's pipeline."""

    def __init__(self, dag: Dag) -> None:
        """Connects, makes the experiment, and looks up which stages have their record.

        Raises:
            EnvironmentFault: The tracking server does not answer.
        """
        self.dag = dag
        self.workspace = identity(dag.root)
        self.uri = uri = address(dag.root)
        self.client = connect(dag.root)
        self.state = dag.state()
        with words(uri):
            self.experiment = experiment_of(self.client, dag.root, dag.recipe.name, uri)
            self._records = {run.data.tags["key"]: run.info.run_id for run in self._runs("status = 'FINISHED'")}
        self.registry = Registry(self.client, uri, self.experiment, dag.recipe.name)
        self._parent: str | None = None

    def missing(self) -> list[Stage]:
        """The stages whose present result has no record."""
        return [stage for stage in self.dag.stages if self.key(stage) not in self._records]

    def record(self, stage: Stage, started: float | None = None, by: Mapping[str, str] | None = None) -> None:
        """Logs the committed result of a stage, and registers the model it made, unless that was done before.

        Args:
            stage: The stage; dvc.lock holds its result.
            started: Unix time when it began to run; None if it did not run now.
            by: Tags that say what ran it.
        """
        hashes = self.dag.hashes(stage.name)
        with words("MLflow"):
            run = self._records.get(self.key(stage)) or self._write(stage, hashes, started or time.time(), by or {})
            if self._parent:
                self._tag(self._parent, {f"stage.{stage.name.replace('@', '.')}": run})
            for label, out in publications(self.dag, stage):
                owner = next(other for other in self.dag.stages if out in other.outs)
                source = self._records.get(self.key(owner), run)
                self.registry.publish(label, self.dag.root / out, source, self._facts(owner))

    def clear(self, stage: Stage) -> None:
        """Looks what a try that failed has left of a record: if it is whole it counts, otherwise it goes."""
        with words("MLflow"):
            for run in self._search(f"tags.key = '{self.key(stage)}'"):
                if run.info.status == "FINISHED":
                    self._records[self.key(stage)] = run.info.run_id
                elif run.data.tags.get("workspace") == self.workspace:
                    self.client.delete_run(run.info.run_id)

    def open(self) -> None:
        """The run of this state of the pipeline goes on, or begins."""
        with words("MLflow"):
            found = self._search(f"tags.pipeline = '{self.state}' and tags.workspace = '{self.workspace}'")
            if found:
                self._parent = found[0].info.run_id
                self.client.update_run(self._parent, status="RUNNING")
                return
            recipe = self.dag.recipe
            tags = {
                "pipeline": self.state,
                "workspace": self.workspace,
                RUN_NAME: f"{recipe.name} {self.state[:8]}",
                **self._commit(),
            }
            self._parent = str(self.client.create_run(self.experiment, tags=tags).info.run_id)
            self._params(self._parent, measurements.flat(recipe.model_dump(mode="json")))

    def close(self, status: str) -> None:
        """Ends the pipeline's run: FINISHED, FAILED or KILLED."""
        if self._parent:
            with words("MLflow"):
                if status == "FINISHED":
                    self._results(self._parent)
                self.client.set_terminated(self._parent, status)
            self._parent = None

    def reap(self) -> None:
        """Ends what a kill left running here: a half-written record goes, a pipeline's run is killed."""
        with words("MLflow"):
            reap(self.client, self._search, self.workspace)

    def _write(self, stage: Stage, hashes: dict[str, str], started: float, by: Mapping[str, str]) -> str:
        """A new record; it counts once it is FINISHED."""
        if not self._parent:
            self.open()
        stamp = int(started * 1000)
        tags = {
            "key": self.key(stage),
            "workspace": self.workspace,
            **{f"out.{out}": hashes[out] for out in stage.outs},
            **self._facts(stage),
            **self._commit(),
            **by,
        }
        run = self.client.create_run(
            self.experiment, start_time=stamp, run_name=stage.name, tags={**tags, PARENT: str(self._parent)}
        )
        run_id = str(run.info.run_id)
        self._params(run_id, measurements.flat(stage.params))
        self._metrics(run_id, stage.outs, stamp)
        self.client.log_inputs(run_id, datasets=[_data(path, hashes[path]) for path in _inputs(stage, hashes)])
        for out in stage.outs:
            root = self.dag.root / out
            for file in measurements.files(root) if root.is_dir() else []:
                where = (Path(out) / file.relative_to(root)).parent.as_posix()
                self.client.log_artifact(run_id, str(file), artifact_path=where)
        self.client.set_terminated(run_id, "FINISHED")
        self._records[self.key(stage)] = run_id
        return run_id

    def _facts(self, stage: Stage) -> dict[str, str]:
        return facts(stage.name, stage.outs, self.dag.hashes(stage.name))

    def _results(self, run: str) -> None:
        """The final numbers stand on the pipeline's run too, where runs are compared."""
        last = [stage for stage in self.dag.stages if stage.name == "evaluate@test"]
        for stage in last:
            self._metrics(run, stage.outs, int(time.time() * 1000))

    def _metrics(self, run: str, outs: tuple[str, ...], stamp: int) -> None:
        found = [number for out in outs for number in measurements.numbers(self.dag.root / out)]
        metrics = [Metric(number.name, number.value, stamp, number.step) for number in found]
        for at in range(0, len(metrics), BATCH * 10):
            self.client.log_batch(run, metrics=metrics[at : at + BATCH * 10])

    def _params(self, run: str, values: dict[str, str]) -> None:
        params = [Param(key, redacted(value)[:6000]) for key, value in values.items()]
        for at in range(0, len(params), BATCH):
            self.client.log_batch(run, params=params[at : at + BATCH])

    def _tag(self, run: str, values: dict[str, str]) -> None:
        self.client.log_batch(run, tags=[RunTag(key, redacted(value)) for key, value in values.items()])

    def key(self, stage: Stage) -> str:
        """Names the present result of a stage."""
        return key(stage.name, stage.params, self.dag.hashes(stage.name))

    def _commit(self) -> dict[str, str]:
        commit = self.dag.commit_id()
        return {"mlflow.source.git.commit": commit} if commit else {}

    def _runs(self, also: str) -> list[Any]:
        """Records of stages, of any workspace: the same result is not logged again elsewhere."""
        return [run for run in self._search(also) if "key" in run.data.tags]

    def _search(self, query: str) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = self.client.search_runs([self.experiment], query, max_results=1000, page_token=token)
            found.extend(page)
            token = page.token
            if not token:
                return found


def experiment_of(client: MlflowClient, root: Path, name: str, uri: str) -> str:
    """The id of the experiment named like the recipe; in a local database its artifacts are in the workspace `root`."""
    found = client.get_experiment_by_name(name)
    if found and found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    if found:
        return str(found.experiment_id)
    location = private(root, "mlartifacts", name).as_uri() if uri.startswith("sqlite:") else None
    return str(client.create_experiment(name, artifact_location=location))


def _inputs(stage: Stage, hashes: dict[str, str]) -> list[str]:
    """The deps that are data or models, not code."""
    return [dep for dep in stage.deps if not is_code(dep) and dep in hashes]


def _data(path: str, digest: str) -> DatasetInput:
    """A versioned input; an absolute path shows only its last part."""
    name = Path(path).name if Path(path).is_absolute() else path
    data = MetaDataset(CodeDatasetSource({"dvc": name}), name=name, digest=digest[:36])
    return DatasetInput(data._to_mlflow_entity(), [InputTag("mlflow.data.context", name)])
