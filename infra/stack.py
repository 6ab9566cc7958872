"""All servers of this machine together: up, down, and what a client's environment must say."""

import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir, mkdtemp

import psutil

from infra import deploy
from infra.home import HOST, Home
from infra.mlflow_server import MLflow
from infra.postgresql import PostgreSQL
from infra.prefect_server import Prefect
from infra.seaweedfs import S3
from infra.service import Service
from infra.worker import Worker

PREFIX = "secateur-servers-"
LIMITS = {"gpu": 1, "cpu": 1}
"""Flow runs at once in each pool."""


class Stack:
    """PostgreSQL, S3, MLflow, Prefect and the workers; each can be started, killed and stopped alone too."""

    def __init__(self, home: Home, root: Path, limits: Mapping[str, int] = LIMITS) -> None:
        """Ties the parts together; nothing is started.

        Args:
            home: Where their state is.
            root: The workspace in which workers run flows.
            limits: Most flow runs at once, by pool; a worker for each.
        """
        self.home = home
        self.root = root
        self.limits = dict(limits)
        self.postgresql = PostgreSQL(home)
        self.s3 = S3(home)
        self.mlflow = MLflow(home, self.postgresql, self.s3)
        self.prefect = Prefect(home, self.postgresql)
        self.workers = {pool: Worker(home, pool, root, self.environment()) for pool in limits}

    @property
    def servers(self) -> tuple[Service, ...]:
        """Those that a client talks to, in the order in which they start."""
        return (self.postgresql, self.s3, self.mlflow, self.prefect)

    @property
    def services(self) -> tuple[Service, ...]:
        """All, in the order in which they start."""
        return (*self.servers, *self.workers.values())

    def environment(self) -> dict[str, str]:
        """What a client's environment must say; secrets for addresses of databases and S3 stay in files."""
        return {
            **self.prefect.client(),
            **self.mlflow.client(),
            "PGPASSFILE": str(self.postgresql.passwords),
            "AWS_SHARED_CREDENTIALS_FILE": str(self.s3.credentials),
            "AWS_ENDPOINT_URL_S3": self.s3.url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "NO_PROXY": HOST,
            "no_proxy": HOST,
        }

    def up(self, say: Callable[[str], None] = print, *, deployments: bool = True) -> None:
        """Starts what is not up, and makes what is not there; done twice it changes nothing.

        Args:
            say: Told of each step.
            deployments: Whether to register those of the workspace's infra/prefect.yaml.

        Raises:
            EnvironmentFault: A server does not come up, or is not installed.
        """
        for service in self.servers:
            service.start()
            say(f"{service.name:<12} {self.address(service)}")
        deploy.pools(self.home, self.environment(), self.limits)
        say(f"{'pools':<12} " + ", ".join(f"{pool}: {limit} at once" for pool, limit in self.limits.items()))
        if deployments and (self.root / deploy.FILE).is_file():
            deploy.deployments(self.home, self.environment(), self.root)
            say(f"{'deployments':<12} as {deploy.FILE} says")
        for worker in self.workers.values():
            worker.start()
            say(f"{worker.name:<12} process {worker.pid()}")
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in self.environment().items()]
        self.home.private(self.env_file, "".join(lines))

    def down(self, say: Callable[[str], None] = print) -> None:
        """Stops everything, the workers and their flows first; what was stored stays."""
        for service in reversed(self.services):
            service.stop()
            say(f"{service.name:<12} stopped")

    def address(self, service: Service) -> str:
        """Where a service is."""
        return f"{HOST}:{self.home.port(service.name)}"

    @property
    def env_file(self) -> Path:
        """For the shell: `. FILE` leads commands to these servers."""
        return self.home.directory / "env"


@contextmanager
def temporary(root: Path, limits: Mapping[str, int] = LIMITS) -> Iterator[Stack]:
    """A stack on free ports whose state is gone after the block, for tests; nothing is started.

    Args:
        root: The workspace in which workers run flows.
        limits: Most flow runs at once, by pool.
    """
    _sweep()
    directory = Path(mkdtemp(prefix=PREFIX))
    directory.chmod(0o711)  # PostgreSQL may run as another user, who must pass
    (directory / "owner").write_text(str(os.getpid()), encoding="utf-8")
    stack = Stack(Home(directory, usual_ports=False, durable=False), root, limits)
    try:
        yield stack
    finally:
        _throw_away(stack)


def _sweep() -> None:
    """Ends what a test that was killed has left running."""
    for owner in Path(gettempdir()).glob(f"{PREFIX}*/owner"):
        text = owner.read_text(encoding="utf-8")
        if text.isdigit() and not psutil.pid_exists(int(text)):
            _throw_away(Stack(Home(owner.parent, usual_ports=False, durable=False), owner.parent))


def _throw_away(stack: Stack) -> None:
    for service in reversed(stack.services):
        service.clear()
    shutil.rmtree(stack.home.directory, ignore_errors=True)
