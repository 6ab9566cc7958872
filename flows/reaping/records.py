"""The records of a workspace in MLflow that a kill left running."""

from collections.abc import Callable
from typing import Any

from mlflow import MlflowClient


def reap(client: MlflowClient, search: Callable[[str], list[Any]], workspace: str) -> int:
    """A half-written record goes, every other run is killed; how many there were. The caller holds the workspace.

    Args:
        client: Of the server.
        search: Finds runs by a query, on all pages.
        workspace: Its identity.
    """
    left = search(f"tags.workspace = '{workspace}' and status = 'RUNNING'")
    for run in left:
        if "key" in run.data.tags:
            client.delete_run(run.info.run_id)
        else:
            client.set_terminated(run.info.run_id, "KILLED")
    return len(left)


def everywhere(client: MlflowClient, query: str) -> list[Any]:
    """The runs of all experiments that a query finds."""
    experiments = [one.experiment_id for one in client.search_experiments()]
    found: list[Any] = []
    token = None
    while experiments:
        page = client.search_runs(experiments, query, max_results=1000, page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            break
    return found
