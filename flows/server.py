"""The Prefect API a flow reports to: the user's, or a private one on the loopback that ends with the flow.

python -m flows.server PARENT DESCRIPTOR
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.child import die_with_parent
from flows.workspace import private
from tasks.core.errors import EnvironmentFault

PATIENCE = 180.0  # seconds; making a fresh database takes ten on a quick machine
OWN: set[str] = set()
"""Addresses of the private servers that this process started."""


@contextmanager
def api(root: Path, waiting: Callable[[float], None], meanwhile: Callable[[], object] = lambda: None) -> Iterator[str]:
    """The address of the API, and PREFECT_API_URL set to it. Call it before Prefect is imported.

    Args:
        root: The workspace; a private server keeps its database there.
        waiting: Called a few times a second with the seconds that a private server has taken to start.
        meanwhile: What is worth doing while it starts; it may import Prefect.

    Raises:
        EnvironmentFault: No server answers.
    """
    given = os.environ.get("PREFECT_API_URL")
    if given:
        yield given
        return
    with _private(root) as (url, ready):
        # A proxy that the user's environment names is not for the loopback.
        passed = {name: os.environ.get(name) for name in ("NO_PROXY", "no_proxy", "PREFECT_API_URL")}
        for name in ("NO_PROXY", "no_proxy"):
            os.environ[name] = ",".join(part for part in (passed[name], "127.0.0.1") if part)
        os.environ["PREFECT_API_URL"] = url
        OWN.add(url)
        try:
            meanwhile()
            ready(waiting)
            yield url
        finally:
            for name, value in passed.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value


@contextmanager
def _private(root: Path) -> Iterator[tuple[str, Callable[[Callable[[float], None]], None]]]:
    """The address of a server that starts, and what returns when it answers."""
    log = private(root, "logs", "prefect.log")
    with socket.socket() as listener, log.open("wb") as output:
        listener.bind(("127.0.0.1", 0))  # bound here and handed on: nobody else can take the port in between
        port = listener.getsockname()[1]
        path = os.pathsep.join(p for p in (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")) if p)
        url = f"http://127.0.0.1:{port}/api"
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.server", str(os.getpid()), str(listener.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PREFECT_API_URL": url, "PYTHONPATH": path},
            pass_fds=(listener.fileno(),),
            start_new_session=True,  # Ctrl-C is for the flow alone
        )
    try:
        yield url, lambda waiting: _await(process, url, log, waiting)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(process: subprocess.Popen[bytes], url: str, log: Path, waiting: Callable[[float], None]) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    start = time.monotonic()
    while (elapsed := time.monotonic() - start) < PATIENCE:
        if process.poll() is not None:
            raise EnvironmentFault(f"Prefect's server ended with status {process.returncode}; {log} says why")
        try:
            direct.open(f"{url}/health", timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            waiting(elapsed)
            time.sleep(0.1)
    raise EnvironmentFault(f"Prefect's server did not answer in {PATIENCE:.0f} s; {log} says why")


def delivered() -> None:
    """Sends what Prefect still holds back; after its server has stopped it would try for minutes."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for service in (APILogWorker, EventsWorker):
        service.drain_all(timeout=10)


def _serve(parent: int, descriptor: int) -> None:
    die_with_parent(parent)
    import uvicorn

    uvicorn.run("prefect.server.api.server:create_app", factory=True, fd=descriptor, log_level="warning")


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]))
