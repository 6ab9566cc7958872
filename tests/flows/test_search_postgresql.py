"""A search on a real PostgreSQL server on loopback."""

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from tasks.core.errors import EnvironmentFault
from tests.flows.conftest import make_workspace
from tests.flows.searching import go

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [Path(p).parent for p in [shutil.which("initdb")] if p]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """The URL of a server that lives as long as these tests."""
    if not BINARIES:
        pytest.skip("no PostgreSQL binaries here")
    if not find_spec("psycopg2"):
        pytest.skip("psycopg2 is not installed: pip install 'secateur[postgres]'")
    other = {"user": "postgres"} if os.getuid() == 0 else {}  # the server refuses to run as root
    home = Path(tempfile.mkdtemp(prefix="pg"))
    user = "postgres" if other else getpass.getuser()
    if other:
        shutil.chown(home, "postgres")
    port, data = free_port(), home / "data"

    def run(*words: str) -> None:
        subprocess.run([str(BINARIES[-1] / words[0]), *words[1:]], check=True, cwd=home, capture_output=True, **other)

    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={home} -c fsync=off"
    run("initdb", "-D", str(data), "-A", "trust", "-U", user)
    run("pg_ctl", "-D", str(data), "-l", str(home / "log"), "-o", options, "-w", "start")
    try:
        yield f"postgresql://{user}@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(home, ignore_errors=True)


def test_two_workers_share_the_trials_of_a_server(
    postgresql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEARCH_ORDERS", str(tmp_path))
    root = make_workspace(tmp_path / "workspace")
    go(root, 6, f"search.storage={postgresql}", workers=2)
    go(root, 7, f"search.storage={postgresql}", workers=2)
    trials = optuna.load_study(study_name="quickstart", storage=postgresql).trials
    given = [
        trial.state for trial in trials if "ticket" in trial.user_attrs
    ]  # a worker that finds none fails one without
    assert given == [TrialState.COMPLETE] * 7
    assert not list(root.rglob("study.db"))


def test_a_server_that_is_not_there_is_one_message(tmp_path: Path) -> None:
    if not find_spec("psycopg2"):
        pytest.skip("psycopg2 is not installed: pip install 'secateur[postgres]'")
    url = f"postgresql://someone@127.0.0.1:{free_port()}/study"
    with pytest.raises(EnvironmentFault, match=r"someone@127.0.0.1:\d+/study does not answer \(.*refused"):
        go(make_workspace(tmp_path / "workspace"), 1, f"search.storage={url}")
