"""Servers start, are found again, are put right after a kill, and let in nobody without a password."""

import json
import stat
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
import sqlalchemy

from infra import postgresql
from infra.home import Home
from infra.postgresql import PostgreSQL
from infra.stack import Stack
from tasks.core.errors import EnvironmentFault


def test_starting_again_changes_nothing(stack: Stack) -> None:
    before = [server.pid() for server in stack.servers]
    assert all(before)
    for server in stack.servers:
        server.start()
    assert [server.pid() for server in stack.servers] == before


@pytest.mark.parametrize("name", ["postgresql", "s3"])
def test_a_server_that_was_killed_comes_back_with_what_it_had(stack: Stack, name: str) -> None:
    server = getattr(stack, name)
    server.kill()
    assert not server.is_up()
    server.start()
    assert server.is_up()


def test_nothing_listens_elsewhere_than_on_loopback(stack: Stack) -> None:
    ports = set(json.loads((stack.home.directory / "ports.json").read_text()).values())
    found = [one for one in psutil.net_connections("tcp") if one.status == "LISTEN" and one.laddr.port in ports]
    assert {one.laddr.ip for one in found} == {"127.0.0.1"}
    marked = [process for server in stack.servers[1:] for process in server._processes()]
    ours = [one for process in marked for one in process.net_connections("tcp") if one.status == "LISTEN"]
    assert {one.laddr.ip for one in ours} == {"127.0.0.1"}


def test_secrets_are_for_their_owner_alone_and_in_no_command_line(stack: Stack) -> None:
    files = [*stack.home.place("secrets").iterdir(), stack.s3.directory() / "s3.json"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    words = {file.read_text() for file in files if "\n" not in file.read_text()}
    assert len(words) >= 7
    lines = [" ".join(process.cmdline()) for server in stack.servers[1:] for process in server._processes()]
    assert lines
    assert not any(word in line for word in words for line in lines)


def test_without_a_password_nobody_is_let_in(stack: Stack) -> None:
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import ClientError

    for url in (f"{stack.mlflow.url}/api/2.0/mlflow/experiments/get?experiment_id=0", f"{stack.prefect.url}/version"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5)
        assert refused.value.code == 401
    nobody = boto3.client(
        "s3", endpoint_url=stack.s3.url, region_name="us-east-1", config=Config(signature_version=UNSIGNED)
    )
    with pytest.raises(ClientError, match="AccessDenied"):
        nobody.list_objects_v2(Bucket="mlflow")
    engine = sqlalchemy.create_engine(stack.postgresql.url("search"), connect_args={"passfile": "/dev/null"})
    with pytest.raises(sqlalchemy.exc.OperationalError, match="no password supplied"):
        engine.connect()


def test_a_role_has_its_own_databases_alone(client: Stack) -> None:
    url = client.postgresql.url("mlflow").replace("mlflow@", "search@")
    with pytest.raises(sqlalchemy.exc.OperationalError):
        sqlalchemy.create_engine(url).connect()
    sqlalchemy.create_engine(client.postgresql.url("search")).connect().close()


def test_a_machine_without_postgresql_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "binaries", lambda: None)
    with pytest.raises(EnvironmentFault, match="apt-get install postgresql"):
        PostgreSQL(Home(tmp_path, usual_ports=False)).start()


def test_a_port_in_use_is_left_alone(stack: Stack, tmp_path: Path) -> None:
    taken = stack.home.port("mlflow")
    other = Home(tmp_path)
    (tmp_path / "ports.json").write_text(json.dumps({"s3": taken}))
    assert other.port("prefect") not in (0, taken)
    assert other.port("prefect") == other.port("prefect")


def test_outside_a_workspace_the_command_says_so(tmp_path: Path) -> None:
    import sys

    from tests.flows.conftest import REPOSITORY

    command = [sys.executable, "-m", "infra", "up"]
    env = {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "has no dvc.yaml" in done.stderr
