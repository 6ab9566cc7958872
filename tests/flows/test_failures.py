"""What a run says and leaves when something goes wrong."""

import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tasks.core.errors import EnvironmentFault, UserError
from tests.flows.conftest import drive, make_workspace, pipeline

Order = Callable[[Path, str, str], None]


def test_a_users_mistake_is_one_line_and_status_2(workspace: Path, order: Order) -> None:
    order(workspace, "prepare", "mistake")
    process = drive(workspace, "run", "--force", "prepare")
    out, error = process.communicate(timeout=120)
    assert process.returncode == 2, error
    assert error == "secateur: prepare: the label column is not there; columns: text, stars\n"
    assert "chatter" not in out


def test_a_stage_killed_for_memory_names_itself_and_how_to_resume(workspace: Path, order: Order) -> None:
    order(workspace, "prune@r2", "oom")
    with pytest.raises(EnvironmentFault) as caught:
        pipeline(workspace, "train.epochs=1", force=("prune@r2",))
    assert "prune@r2 was killed (SIGKILL" in str(caught.value)
    assert "secateur run --set train.epochs=1" in str(caught.value)
    assert not list(workspace.rglob("*.partial"))
    (workspace / "orders" / "prune@r2").unlink()
    assert not pipeline(workspace, "train.epochs=1")


def run_alone(root: Path, name: str) -> None:
    """A stage in its child, without the flow around it."""
    from flows.dag import Dag
    from flows.process import Workers

    with contextlib.chdir(root):
        dag = Dag(root)
        with Workers(root, dag.recipe, ["secateur", "run"], "tests.flows.fake", ()) as workers:
            workers.run(dag.job(name), "cpu", lambda _: None)


def test_a_full_disk_is_the_machines_fault(workspace: Path, order: Order) -> None:
    order(workspace, "report", "full")
    with pytest.raises(EnvironmentFault, match=r"report: No space left on device: data/prepared; .*secateur run"):
        run_alone(workspace, "report")


def test_a_stages_progress_is_in_its_log(finished: Path) -> None:
    log = (finished / ".secateur" / "logs" / "train.log").read_text()
    assert log.split("\n")[:3] == ["chatter on stdout", "step 1/3", "step 3/3"]


def test_a_bug_leaves_its_traceback_in_a_log(workspace: Path, order: Order, capfd: pytest.CaptureFixture[str]) -> None:
    order(workspace, "report", "bug")
    with pytest.raises(EnvironmentFault, match=r"report failed: RuntimeError: .* \(see .secateur/logs/report.log\)"):
        run_alone(workspace, "report")
    assert "off by one" in (workspace / ".secateur" / "logs" / "report.log").read_text()
    assert "Traceback" in capfd.readouterr().err


def test_code_that_changes_under_a_running_stage_is_not_recorded(workspace: Path, order: Order) -> None:
    order(workspace, "sleep", "2")
    log = workspace / ".secateur" / "logs" / "report.log"
    log.unlink()
    process = drive(workspace, "run", "--force", "report")
    wait_for(lambda: log.is_file() and "chatter" in log.read_text(), process)
    (workspace / "tasks" / "report" / "code.py").write_text("# changed\n")
    _, error = process.communicate(timeout=180)
    assert process.returncode == 1
    assert "tasks/report changed while the pipeline ran" in error


def test_a_second_run_is_refused(workspace: Path) -> None:
    from flows.workspace import locked

    with locked(workspace), pytest.raises(EnvironmentFault, match="already running in this workspace"):
        pipeline(workspace)


def test_all_mistakes_of_a_recipe_and_nothing_written(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "workspace")
    with pytest.raises(UserError) as caught:
        pipeline(root, "train.epochs=0", "prune.rouns=[0.1]")
    assert "train.epochs" in str(caught.value)
    assert "prune.rouns" in str(caught.value)
    with pytest.raises(UserError, match=r"data.source: .*nowhere.csv is not there"):
        pipeline(root, "data.source=nowhere.csv")
    with pytest.raises(UserError, match="--force trian: no such stage"):
        pipeline(root, force=("trian",))
    assert not (root / ".secateur" / "mlflow.db").exists()


def test_a_directory_without_git_and_dvc_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    with pytest.raises(UserError, match="git init && dvc init"):
        pipeline(tmp_path)


def test_outside_a_workspace(tmp_path: Path) -> None:
    from flows.workspace import find

    with pytest.raises(UserError, match="in no workspace"):
        find(tmp_path)


def test_ctrl_c_ends_cleanly(workspace: Path, order: Order) -> None:
    from tests.flows.test_kill import running_in_mlflow, running_in_prefect

    order(workspace, "train", "hang")
    process = drive(workspace, "run", "--force", "train")
    wait_for((workspace / "orders" / "hanging").is_file, process)
    stage = int((workspace / "orders" / "hanging").read_text())
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=180)
    assert process.returncode == 130, error
    assert error.strip() == "secateur: interrupted; the same command goes on from here"
    assert not psutil.pid_exists(stage)
    assert running_in_prefect(workspace) == []
    assert running_in_mlflow(workspace) == []


def wait_for(condition: Callable[[], bool], process: object, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()  # type: ignore[attr-defined]
        time.sleep(0.05)
