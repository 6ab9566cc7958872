"""A deployment on a cron schedule, on real servers: it retrains by itself, promotes, refuses, and can be undone."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo

from flows.promotion.record import decisions
from flows.promotion.transaction import CHALLENGER, CHAMPION, PREVIOUS
from tests.flows.retraining.conftest import rows, write_rows
from tests.flows.servers import command, deploy, flow_processes, flow_runs, make_small, serving, wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]
PATIENCE = 600


def ended(deployment: Any, name: str) -> list[Any]:
    return [run for run in flow_runs(deployment) if run.state_name == name]


def test_a_schedule_promotes_refuses_and_is_rolled_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_small(tmp_path / "clone")
    first, more, wrong = rows(0, 150), rows(1, 450), rows(2, 600, flipped=True)
    write_rows(root / "rows.csv", first)
    with serving(root, monkeypatch):
        parameters = {"recipe": str(root / "recipe.yaml"), "root": str(root)}
        entrypoint = "flows/retrain.py:retrain"
        deployment = deploy(root, entrypoint, parameters, "cpu", cron="* * * * *", concurrency_limit=1)
        wait_until(lambda: len(decisions(root)) == 1, PATIENCE)
        wait_until(lambda: ended(deployment, "Unchanged"), PATIENCE)
        write_rows(root / "rows.csv", first + more)
        wait_until(lambda: len(decisions(root)) == 2, PATIENCE)
        write_rows(root / "rows.csv", first + more + wrong)
        wait_until(lambda: len(decisions(root)) == 3, PATIENCE)
        wait_until(lambda: not flow_processes(root), PATIENCE)
        back = command(root, "rollback", "--because", "users complain")
        assert back.returncode == 0, back.stderr
        shown = command(root, "history", "--json")
        made, better, worse, undone = json.loads(shown.stdout)
        kinds = [one["decision"] for one in (made, better, worse, undone)]
        assert kinds == ["promotion", "promotion", "refusal", "rollback"]
        assert better["after"] == {CHAMPION: "2", PREVIOUS: "1", CHALLENGER: None}
        assert worse["after"] == {CHAMPION: "2", PREVIOUS: "1", CHALLENGER: "3"}
        assert undone["after"] == {CHAMPION: "1", PREVIOUS: None, CHALLENGER: "3"}
        for one in (better, worse):  # the evidence of each
            checks = {check["name"]: check for check in one["checks"]}
            assert {"data form", "data relabelled", "data class shift", "lineage", "margin"} <= checks.keys()
            assert all(check["met"] for name, check in checks.items() if name.startswith("data "))
            assert one["flow_run"] in {str(run.id) for run in flow_runs(deployment)}
            assert one["evidence"]["earlier"]["rows"] > 0
            assert all(one["runs"].values())
        assert not {check["name"]: check["met"] for check in worse["checks"]}["earlier_margin"]
        assert command(root, "verify", "models:/tiny@champion").returncode == 0
        assert Repo(str(root)).status(cloud=True) == {}  # all that was made is in the DVC remote, which is in S3
        (quick,) = ended(deployment, "Unchanged")[:1]
        print("unchanged took", quick.total_run_time, "better", better["evidence"], "worse", worse["evidence"])


def test_missed_runs_are_caught_up_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four were due while no worker was there."""
    from prefect.client.orchestration import get_client
    from prefect.states import Scheduled

    root = make_small(tmp_path / "clone")
    write_rows(root / "rows.csv", rows(0, 150))
    with serving(root, monkeypatch) as stack:
        stack.workers["cpu"].stop()
        parameters = {"recipe": str(root / "recipe.yaml"), "root": str(root)}
        deployment = deploy(root, "flows/retrain.py:retrain", parameters, "cpu", concurrency_limit=1)
        with get_client(sync_client=True) as client:
            for hours in (4, 3, 2, 1):
                due: Any = Scheduled(scheduled_time=datetime.now(UTC) - timedelta(hours=hours))
                client.create_flow_run_from_deployment(deployment, state=due)
        stack.workers["cpu"].start()
        wait_until(lambda: len(decisions(root)) == 1, PATIENCE)
        wait_until(lambda: not flow_processes(root), PATIENCE)
        time.sleep(15)  # a worker would have asked for more by then
        names = sorted(str(run.state_name) for run in flow_runs(deployment))
        assert names.count("Promoted") == 1
        assert set(names) <= {"Promoted", "Caught up", "Cancelled", "Refused"}
