"""The servers, on free ports of the loopback, one set for all tests here."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from infra.postgresql import binaries
from infra.stack import Stack, temporary
from tests.flows.conftest import environment, make_workspace

__all__ = ["environment"]


def needed() -> None:
    """Skips the test where the servers are not installed."""
    if not binaries():
        pytest.skip("no PostgreSQL binaries here: apt-get install postgresql")
    for module in ("boto3", "flask_wtf", "psycopg2"):
        if not find_spec(module):
            pytest.skip(f"{module} is not installed: pip install 'secateur[servers]'")


@pytest.fixture(scope="session")
def stack(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """PostgreSQL, S3, MLflow and Prefect, up; a workspace whose stages take no time; no worker."""
    needed()
    root = make_workspace(tmp_path_factory.mktemp("servers") / "workspace")
    with temporary(root) as stack:
        for server in stack.servers:
            server.start()
        yield stack


@contextmanager
def leading_to(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment of this process leads to the servers."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    word = stack.environment()["PREFECT_API_AUTH_STRING"]
    # Prefect reads its environment once, when it is imported.
    with temporary_settings({PREFECT_API_URL: stack.prefect.url, PREFECT_API_AUTH_STRING: word}):
        yield


@pytest.fixture
def client(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """The servers, with this process as their client."""
    with leading_to(stack, monkeypatch):
        yield stack
