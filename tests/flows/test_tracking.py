"""What MLflow holds after a run: one record per result, one version per model."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from flows.dag import Dag
from tasks.core.files import write_json
from tasks.recipe.load import dump, resolve
from tests.flows.conftest import calls, pipeline
from tests.flows.test_compress import CHAIN


def runs(root: Path) -> list[Any]:
    client = MlflowClient(f"sqlite:///{root / '.secateur' / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, max_results=1000))


def records(root: Path) -> Counter[str]:
    return Counter(run.info.run_name for run in runs(root) if "key" in run.data.tags)


def test_each_stage_has_one_record_below_the_pipelines_run(finished: Path) -> None:
    assert records(finished) == Counter(CHAIN)
    (parent,) = [run for run in runs(finished) if "key" not in run.data.tags]
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["quality.dense.accuracy"] == 0.8
    assert parent.data.params["train.batch_size"] == "32"
    children = [run for run in runs(finished) if "key" in run.data.tags]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert {run.info.status for run in children} == {"FINISHED"}


def test_a_record_holds_params_curves_inputs_and_small_files(finished: Path) -> None:
    client = MlflowClient(f"sqlite:///{finished / '.secateur' / 'mlflow.db'}")
    (train,) = [run for run in runs(finished) if run.info.run_name == "train"]
    assert train.data.params["train.learning_rate"] == "0.0001"
    curve = client.get_metric_history(train.info.run_id, "training.loss")
    assert [(point.step, point.value) for point in curve] == [(0, 1.0), (1, 1 / 2), (2, 1 / 3)]
    assert {data.dataset.name for data in train.inputs.dataset_inputs} == {"data/prepared"}
    assert len(train.data.tags["code_hash"]) == 64
    found = [file.path for file in client.list_artifacts(train.info.run_id, "models/dense")]
    assert "models/dense/training.json" in found
    assert "models/dense/model.safetensors" not in found


def test_models_are_registered_once_and_point_to_what_made_them(finished: Path) -> None:
    client = MlflowClient(f"sqlite:///{finished / '.secateur' / 'mlflow.db'}")
    names = {model.name for model in client.search_registered_models()}
    labels = ("dense", "pruned", "student", "quantized-dense", "quantized-pruned", "quantized-student")
    assert names == {f"quickstart-{label}" for label in labels}
    for name in names:
        (version,) = client.search_model_versions(f"name = '{name}'")
        assert client.get_model_version_by_alias(name, "current").version == version.version
    pruned = client.get_model_version_by_alias("quickstart-pruned", "current")
    assert pruned.tags["stage"] == "finetune@r1"  # r2's verdict is `broken`
    assert set(pruned.tags) == {"stage", "out_md5", "code_hash", "parents"}


def test_logging_again_changes_nothing(finished: Path) -> None:
    before = [(run.info.run_id, run.info.end_time) for run in runs(finished)]
    assert not pipeline(finished)
    assert [(run.info.run_id, run.info.end_time) for run in runs(finished)] == before


def test_a_half_written_record_is_written_anew(workspace: Path) -> None:
    from flows.workspace import identity

    client = MlflowClient(f"sqlite:///{workspace / '.secateur' / 'mlflow.db'}")
    for run in runs(workspace):
        client.set_tag(run.info.run_id, "workspace", identity(workspace))  # it is a copy, so it has another
        if run.info.run_name == "train" or "key" not in run.data.tags:
            client.update_run(run.info.run_id, status="RUNNING")
    assert not pipeline(workspace)
    assert records(workspace) == Counter(CHAIN)
    assert {run.info.status for run in runs(workspace)} == {"FINISHED"}
    assert len(runs(workspace)) == len(CHAIN) + 1


def test_the_flow_runs_nothing_after_dvc_repro_and_logs_it(workspace: Path) -> None:
    setting = "distill.epochs=9"
    (workspace / "params" / "pipeline.yaml").write_text(dump(resolve(None, [setting])))
    command = [sys.executable, "-m", "dvc", "repro", "-q"]
    done = subprocess.run(command, cwd=workspace, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    again = ["distill", "quantize@student", "evaluate@test", "report"]
    assert calls(workspace) == again
    assert not pipeline(workspace, setting)
    assert calls(workspace) == []
    assert records(workspace) == Counter(CHAIN) + Counter(again)
    client = MlflowClient(f"sqlite:///{workspace / '.secateur' / 'mlflow.db'}")
    assert client.get_model_version_by_alias("quickstart-student", "current").version == 2


def test_what_waits_is_sent_before_what_has_no_record_is_logged(finished: Path) -> None:
    """A record that MLflow could not take says when its stage ran, and in which flow run, also if nothing runs now."""
    client = MlflowClient(f"sqlite:///{finished / '.secateur' / 'mlflow.db'}")
    (before,) = [run for run in runs(finished) if run.info.run_name == "train"]
    client.delete_run(before.info.run_id)
    stage = Dag(finished).stage("train")
    note = {"stage": "train", "params": stage.params, "started": 123.0, "by": {"prefect.flow_run": "one"}}
    write_json(finished / ".secateur/outbox/1-train.json", {**note, "key": before.data.tags["key"]})
    calls(finished)
    pipeline(finished)
    assert calls(finished) == []
    (after,) = [run for run in runs(finished) if run.info.run_name == "train"]
    assert after.info.start_time == 123_000
    assert after.data.tags["prefect.flow_run"] == "one"
    assert not list((finished / ".secateur/outbox").iterdir())
