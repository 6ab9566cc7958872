"""The chain in flows/compress.py against dvc.yaml, and what a whole run leaves."""

import shutil
from pathlib import Path
from uuid import UUID

import pytest

from tasks.recipe.load import dump, resolve
from tests.flows.conftest import calls, hashes, is_clean, pipeline

ROUNDS = [f"{name}@{item}" for item in ("r1", "r2") for name in ("score", "prune", "finetune", "evaluate")]
QUANTIZED = ["quantize@dense", "quantize@pruned", "quantize@student"]
CHAIN = ["prepare", "train", *ROUNDS, "distill", *QUANTIZED, "evaluate@test", "report"]


def test_the_flow_runs_the_stages_of_dvc_yaml_in_their_order(finished: Path) -> None:
    from flows.compress import chain
    from flows.dag import Dag

    dag = Dag(finished)
    seen: list[str] = []
    chain(lambda *name: seen.append("@".join(name)), *map(dag.items, ("table", "score", "quantize")))
    assert seen == [stage.name for stage in dag.stages] == CHAIN
    for stage in dag.stages:
        earlier = {out for name in seen[: seen.index(stage.name)] for out in dag.stage(name).outs}
        later = {out for other in dag.stages for out in other.outs} - earlier
        assert not later & set(stage.deps)


def test_a_run_leaves_nothing_to_do(finished: Path) -> None:
    assert is_clean(finished)
    assert (finished / "calls" / "log").read_text().split() == CHAIN
    assert not pipeline(finished)
    assert (finished / "calls" / "log").read_text().split() == CHAIN


def test_prefect_knows_every_stage_and_none_is_running(finished: Path) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterTags

    from flows.reaping.flow_runs import tag

    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[tag(finished)])))
        assert run.state_name == "Completed"
        tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[UUID(str(run.id))])))
    assert sorted(task.name for task in tasks) == sorted(CHAIN)
    assert {task.state_name for task in tasks} == {"Completed"}
    assert {task.name for task in tasks if "cpu" in task.tags} >= {"prepare", "quantize@dense", "report"}
    assert {task.name for task in tasks if "gpu" in task.tags} >= {"train", "score@r2", "distill"}


def test_a_deleted_directory_comes_back_without_running(workspace: Path) -> None:
    before = hashes(workspace)
    shutil.rmtree(workspace / "models")
    shutil.rmtree(workspace / "data" / "times" / "r1")
    assert not pipeline(workspace)
    assert calls(workspace) == []
    assert is_clean(workspace)
    assert hashes(workspace) == before


def test_a_changed_param_runs_what_depends_on_it_and_changing_back_runs_nothing(workspace: Path) -> None:
    before = hashes(workspace)
    assert pipeline(workspace, "distill.epochs=9")
    assert calls(workspace) == ["distill", "quantize@student", "evaluate@test", "report"]
    assert is_clean(workspace)
    assert not pipeline(workspace)
    assert calls(workspace) == []
    assert hashes(workspace) == before


def test_another_recovery_takes_the_teacher_as_it_is(workspace: Path) -> None:
    before = hashes(workspace)
    assert pipeline(workspace, "finetune.hidden=0.5", "finetune.alpha=0.2")
    assert not {"prepare", "train", "score@r1", "prune@r1", "distill"} & set(calls(workspace))
    after = hashes(workspace)
    assert after["models/rounds/r1"] != before["models/rounds/r1"]
    assert after["data/teacher"] == before["data/teacher"]


def test_a_forced_stage_runs_and_only_what_its_outs_change_follows(workspace: Path) -> None:
    assert pipeline(workspace, force=("distill",))
    assert calls(workspace) == ["distill"]
    assert is_clean(workspace)


def test_a_round_less_leaves_nothing_of_it(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import repair
    from flows.dag import Dag

    monkeypatch.chdir(workspace)
    pipeline_yaml = workspace / "params" / "pipeline.yaml"
    pipeline_yaml.write_text(dump(resolve(None, ["prune.rounds=[0.3]"])))
    repair.strangers(Dag(workspace))
    for directory in ("models/rounds", "models/cut", "data/rounds", "data/scores", "data/times"):
        assert (workspace / directory / "r1").is_dir()
        assert not (workspace / directory / "r2").exists()
    pipeline_yaml.write_text(dump(resolve(None, [])))
    assert not pipeline(workspace)
    assert calls(workspace) == []


def test_what_units_cost_is_measured_where_a_round_is_to_reach_a_latency(workspace: Path) -> None:
    from flows.dag import Dag

    assert pipeline(workspace, "prune.rounds=[{latency: 0.3}]", "prune.allocation=solve")
    made = calls(workspace)
    assert made[:4] == ["table@dense", "score@r1", "prune@r1", "finetune@r1"]
    assert [stage.name for stage in Dag(workspace).stages][2:4] == ["table@dense", "score@r1"]
    assert is_clean(workspace)
    assert not pipeline(workspace, "prune.rounds=[{latency: 0.3}]", "prune.allocation=solve")


def test_a_changed_out_is_put_right_from_the_cache(workspace: Path) -> None:
    (workspace / "models" / "student" / "model.safetensors").write_bytes(b"")
    assert not pipeline(workspace)
    assert is_clean(workspace)
    assert calls(workspace) == []
