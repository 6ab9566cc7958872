"""`secateur gc`: removes from DVC's cache what no lineage needs; and the budget of the disk, which asks for it.

secateur gc            # what would go
secateur gc --remove
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from dvc.repo import Repo
from dvc_data.hashfile.db import HashFileDB
from dvc_data.hashfile.gc import gc
from dvc_data.hashfile.hash_info import HashInfo

from flows.database import address, connect, words
from flows.garbage.needed import known, needed
from flows.workspace import locked
from tasks.core.errors import UserError
from tasks.core.files import read_json

GB = 2**30
DIRECTORY = ".dir"


@dataclass(frozen=True)
class Garbage:
    """What is in DVC's cache and needed by nobody."""

    objects: int
    size: int
    kept: int
    """Bytes that stay."""
    named: list[str]
    """Those that a record tells of."""


def collect(root: Path, remove: bool) -> Garbage:
    """Looks for garbage, and removes it if asked to.

    Args:
        root: The workspace.
        remove: Whether it goes.

    Raises:
        UserError: DVC's cache is shared with other workspaces.
        EnvironmentFault: A pipeline runs here, or MLflow does not answer; nothing was removed.
    """
    cache: HashFileDB = Repo(str(root)).cache.local
    if not Path(cache.path).resolve().is_relative_to(root.resolve()):
        raise UserError(
            f"DVC's cache ({cache.path}) lies outside the workspace, so others may need what is there; "
            "free it by dvc gc --projects with all of them"
        )
    with ExitStack() as stack:
        stack.enter_context(locked(root))
        stack.enter_context(words(address(root)))
        client = connect(root)
        keep = _whole(cache, needed(root, client))
        sizes = {md5: Path(cache.oid_to_path(md5)).stat().st_size for md5 in cache.all()}
        loose = {md5: size for md5, size in sizes.items() if md5 not in keep}
        names = known(client)
        if remove and loose:
            gc(cache, [HashInfo("md5", md5) for md5 in keep], shallow=True)
    size = sum(loose.values())
    return Garbage(len(loose), size, sum(sizes.values()) - size, sorted(names[md5] for md5 in loose if md5 in names))


def show(root: Path, remove: bool) -> None:
    """Prints what goes or would go."""
    found = collect(root, remove)
    for name in found.named:
        print(f"  {name}")
    what = f"{found.objects} objects, {found.size / GB:.3f} GB"
    stays = f"{found.kept / GB:.3f} GB are needed and stay"
    if not found.objects:
        print(f"nothing to remove; {stays}")
    elif remove:
        print(f"removed {what}; {stays}")
    else:
        print(f"{what} would go, {stays}; to remove them: secateur gc --remove")


def within(root: Path, disk_gb: float) -> str | None:
    """Frees DVC's cache if it is larger than its budget; says what was done, if anything."""
    path = Path(Repo(str(root)).cache.local.path)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / GB
    if size <= disk_gb:
        return None
    found = collect(root, remove=True)
    text = f"DVC's cache held {size:.3f} GB, limits.disk_gb allows {disk_gb:g}: {found.size / GB:.3f} GB were freed"
    if found.kept / GB > disk_gb:
        text += (
            f"; the other {found.kept / GB:.3f} GB are needed by this workspace and by registered models: allow more, "
            "or delete versions in MLflow"
        )
    return text


def _whole(cache: HashFileDB, keep: set[str]) -> set[str]:
    """With the files of the directories."""
    found = set(keep)
    for md5 in keep:
        file = Path(cache.oid_to_path(md5))
        if md5.endswith(DIRECTORY) and file.is_file():
            found |= {str(entry["md5"]) for entry in read_json(file)}
    return found
