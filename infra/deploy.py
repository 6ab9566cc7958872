"""Work pools with limits, and the deployments of infra/prefect.yaml: made if not there, changed if they differ."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.home import Home
from tasks.core.errors import EnvironmentFault

FILE = Path("infra/prefect.yaml")


def pools(home: Home, client: Mapping[str, str], limits: Mapping[str, int]) -> None:
    """Makes a process pool for each name, and sets how many flow runs it lets run at once.

    Args:
        home: Whose servers.
        client: Variables that lead to the Prefect server.
        limits: Most flow runs at once, by pool.

    Raises:
        EnvironmentFault: Prefect refused; says why.
    """
    there = {pool["name"]: pool for pool in json.loads(_prefect(home, client, "work-pool", "ls", "--output", "json"))}
    for name, limit in limits.items():
        if name not in there:
            _prefect(home, client, "work-pool", "create", name, "--type", "process")
        if _limit(there.get(name)) != limit:
            _prefect(home, client, "work-pool", "set-concurrency-limit", name, str(limit))


def deployments(home: Home, client: Mapping[str, str], root: Path) -> None:
    """Registers what `infra/prefect.yaml` of a workspace says, with its schedules and triggers.

    Raises:
        EnvironmentFault: Prefect refused; says why.
    """
    _prefect(home, client, "--no-prompt", "deploy", "--all", "--prefect-file", str(FILE), directory=root)


def _limit(pool: dict[str, Any] | None) -> int | None:
    return pool.get("concurrency_limit") if pool else None


def _prefect(home: Home, client: Mapping[str, str], *words: str, directory: Path | None = None) -> str:
    env = {**os.environ, **client, "PREFECT_HOME": str(home.place("prefect-client")), "NO_COLOR": "1"}
    command = [sys.executable, "-m", "prefect", *words]
    done = subprocess.run(
        command, cwd=directory or home.directory, env=env, capture_output=True, text=True, check=False
    )
    with home.log("deploy").open("a", encoding="utf-8") as log:
        log.write(f"prefect {' '.join(words)}\n{done.stdout}{done.stderr}\n")
    if done.returncode:
        raise EnvironmentFault(f"prefect {' '.join(words)} failed; {home.log('deploy')} says why")
    return done.stdout
