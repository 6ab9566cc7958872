"""The pages of Prefect and MLflow for a workspace, on this machine alone, until Ctrl-C.

secateur ui
"""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from flows import database
from flows.quiet import quiet
from flows.workspace import find, private
from tasks.core.errors import EnvironmentFault

HOST = "127.0.0.1"
PATIENCE = 180.0
"""Seconds; the first start of a server makes its database."""
ENDING = 15.0


class Server(NamedTuple):
    """A server of this workspace's own."""

    name: str
    port: int
    """The usual one; another if that is taken."""
    health: str
    """Path that answers when the server is up."""
    command: tuple[str, ...]
    """Arguments of python; `{port}` stands for the port."""


def ui() -> int:
    """Starts both servers, prints where their pages are, and waits for Ctrl-C; 0, or 1 if a server ended by itself.

    Raises:
        EnvironmentFault: A server does not come up.
    """
    root = find(Path.cwd())
    quiet(root)
    with ExitStack() as stack:
        try:
            running = [stack.enter_context(started(root, server)) for server in servers(root)]
            for server, url, process in running:
                wait(process, f"{url}{server.health}", server.name, root)
                print(f"{server.name:<8} {url}", flush=True)
            print("Ctrl-C ends both", flush=True)
            while all(process.poll() is None for _, _, process in running):
                time.sleep(0.3)
        except KeyboardInterrupt:
            return 0
    for server, _, process in running:
        if process.returncode is not None:
            print(f"{server.name} ended by itself; {log(root, server.name)} says why", file=sys.stderr)
    return 1


def servers(root: Path) -> tuple[Server, ...]:
    """Prefect and MLflow on the stores that `secateur run` writes."""
    store, artifacts = f"sqlite:///{private(root, 'mlflow.db')}", private(root, "mlartifacts").as_uri()
    listen = ("--host", HOST, "--port", "{port}")
    stores = ("--backend-store-uri", store, "--artifacts-destination", artifacts)
    return (
        Server("Prefect", 4200, "/api/health", ("-m", "prefect", "server", "start", "--no-services", *listen)),
        Server("MLflow", 5000, "/health", ("-m", "mlflow", "server", *listen, "--workers", "1", *stores)),
    )


def log(root: Path, name: str) -> Path:
    """What a server says goes there."""
    return private(root, "logs", f"ui-{name.lower()}.log")


@contextmanager
def started(root: Path, server: Server) -> Iterator[tuple[Server, str, "subprocess.Popen[bytes]"]]:
    """The server, its address and process; it ends with the block, or with this process, however that ends."""
    if server.name == "MLflow":
        database.make(root)
    port = _free(server.port)
    command = [sys.executable, *(part.format(port=port) for part in server.command)]
    url = f"http://{HOST}:{port}"
    code = str(Path(__file__).parents[1])
    with log(root, server.name).open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.guardian", *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path for path in (code, os.environ.get("PYTHONPATH")) if path),
                "PREFECT_HOME": str(private(root, "prefect")),
                "PREFECT_API_URL": f"{url}/api",
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            },
        )
    try:
        yield server, url, process
    finally:
        if process.stdin:
            process.stdin.close()
        try:
            process.wait(ENDING)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait(process: "subprocess.Popen[bytes]", url: str, name: str, root: Path) -> None:
    """Returns when `url` answers.

    Raises:
        EnvironmentFault: The server ended, or did not answer in time.
    """
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy is not for the loopback
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if process.poll() is not None:
            raise EnvironmentFault(f"{name} ended with status {process.returncode}; {log(root, name)} says why")
        try:
            direct.open(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise EnvironmentFault(f"{name} did not answer in {PATIENCE:.0f} s; {log(root, name)} says why")


def _free(port: int) -> int:
    """`port`, or a free one if something listens there."""
    for wanted in (port, 0):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, wanted))
                return int(probe.getsockname()[1])
            except OSError:
                continue
    raise EnvironmentFault("no port is free")
