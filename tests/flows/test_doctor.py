"""What the doctor finds, and when it calls it a problem."""

import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from flows import checks
from flows.doctor import doctor, examine


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("")
    return tmp_path


class Answer(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answer) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_a_right_workspace_has_no_problem(
    alone: None, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workspace)
    assert doctor() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("0 problems, ")
    assert all(line.split()[0] in ("ok", "warning") for line in lines[:-1])
    assert not any("\x1b" in line for line in lines)


def test_outside_a_workspace(alone: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert doctor() == 1
    assert ("workspace", "problem") in [(finding.what, finding.state) for finding in examine(tmp_path)]


def test_a_workspace_without_git_says_what_to_do(workspace: Path) -> None:
    for path in sorted((workspace / ".git").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (workspace / ".git").rmdir()
    [finding] = [one for one in checks.tools(workspace) if one.what == "workspace"]
    assert finding.state == "problem"
    assert "git init" in finding.advice


def test_packages_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [Requirement("fastapi<0.1"), Requirement("not-there>=1"), Requirement("rich>=1")]
    monkeypatch.setattr(checks, "_asked", lambda: (">=3.99", wanted))
    found = {finding.what: finding for finding in checks.python()}
    assert {name: finding.state for name, finding in found.items()} == dict.fromkeys(
        ("Python", "fastapi", "not-there"), "problem"
    )
    assert "Prefect's server does not start" in found["fastapi"].advice
    assert found["not-there"].found == "not installed"


def test_servers_that_answer(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"{server}/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    assert [finding.state for finding in checks.servers()] == ["ok", "ok"]


@pytest.mark.parametrize(("status", "state"), [(401, "warning"), (500, "problem")])
def test_servers_that_refuse(server: str, status: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answer, "status", status)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert [finding.state for finding in checks.servers()] == ["ok", state]


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/api", "http://", "https://[bad"])
def test_servers_that_are_not_there(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", url)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    finding = next(iter(checks.servers()))
    assert finding.state == "problem"
    assert "PREFECT_API_URL" in finding.advice


def test_credentials_in_an_address_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://someone:secret@host/db")
    assert not any("secret" in "".join(finding) for finding in checks.servers())


def test_a_full_disk_and_a_busy_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": checks.GB // 2})
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: usage)
    assert {finding.state for finding in checks.disks(tmp_path)} == {"problem"}
    monkeypatch.setattr(checks.os, "getloadavg", lambda: (99.0, 99.0, 99.0))
    [load] = [finding for finding in checks.processor() if finding.what == "load"]
    assert load.state == "warning"
