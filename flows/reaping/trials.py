"""The trials of a workspace's searches whose worker was killed."""

from pathlib import Path

from flows.search.place import Place, held
from flows.search.storage import opened, requeue
from flows.workspace import PRIVATE, identity
from tasks.core.errors import EnvironmentFault, UserError
from tasks.recipe.load import read


def reap(root: Path) -> int:
    """Ends them, and puts them back for the next worker; how many there were. A search at work is left alone."""
    ended = 0
    for recipe in sorted((root / PRIVATE / "search").glob("*/recipe.yaml")):
        place = Place(root, recipe.parent.name)
        try:
            with held(place):
                one = read(place.recipe)
                ended += requeue(opened(place, one), f"{identity(root)}:", one.search.retries)
        except (EnvironmentFault, UserError):  # at work, or no storage: the next time; or of a recipe that is none now
            continue
    return ended
