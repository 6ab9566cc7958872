"""The trials of a workspace's searches whose worker was killed, and their records in MLflow."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from flows.search.place import Place, held
from flows.search.storage import opened, requeue
from flows.workspace import PRIVATE, identity
from tasks.core.errors import EnvironmentFault, UserError
from tasks.recipe.load import read


def reap(
    root: Path, client: MlflowClient, search: Callable[[str], list[Any]], end: Callable[[str], None] = lambda _: None
) -> int:
    """Ends them, and puts them back for the next worker; how many there were. A search at work is left alone.

    Args:
        root: The workspace.
        client: Of MLflow's server.
        search: Finds runs by a query, on all pages.
        end: Ends the flow runs of a search, by its name.
    """
    ended = 0
    for recipe in sorted((root / PRIVATE / "search").glob("*/recipe.yaml")):
        place = Place(root, recipe.parent.name)
        try:
            with held(place):
                one = read(place.recipe)
                ended += requeue(opened(place, one), f"{identity(root)}:", one.search.retries)
                end(place.name)
                for run in search(f"tags.search = '{identity(root)}:{place.name}' and status = 'RUNNING'"):
                    client.set_terminated(run.info.run_id, "KILLED")
        except (EnvironmentFault, UserError):  # at work, or no storage: the next time; or of a recipe that is none now
            continue
    return ended
