"""A Prefect process worker: takes the flow runs of one pool and starts each as a process of its own."""

import sys
from collections.abc import Mapping
from pathlib import Path

from infra.home import Home
from infra.service import ProcessService


class Worker(ProcessService):
    """The worker of a pool on this machine; a flow that it started outlives it when it is killed."""

    whole = False

    def __init__(self, home: Home, pool: str, root: Path, client: Mapping[str, str]) -> None:
        """Runs flows in the workspace `root`, with the variables `client` that lead to the servers."""
        super().__init__(home)
        self.name = f"worker-{pool}"
        self.pool = pool
        self.root = root
        self._client = client

    def is_up(self) -> bool:
        """Whether its process lives; one without a server waits and asks again."""
        return self.pid() is not None

    def directory(self) -> Path:
        """The workspace."""
        return self.root

    def command(self) -> list[str]:
        """`prefect worker start`."""
        name = f"{self.pool}@{self.home.port('prefect')}"
        words = ("--pool", self.pool, "--type", "process", "--name", name)
        return [sys.executable, "-m", "prefect", "worker", "start", *words, "--install-policy", "never"]

    def environment(self) -> Mapping[str, str]:
        """The servers, and how often to ask for work."""
        home = self.home.place(self.name, "prefect")
        return {**self._client, "PREFECT_HOME": str(home), "PREFECT_WORKER_QUERY_SECONDS": "2"}
