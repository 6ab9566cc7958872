"""After the verdict: what was made goes to the DVC remote, and what no one needs goes where the disk is short."""

from pathlib import Path

from dvc.exceptions import DvcException
from dvc.repo import Repo

from flows.progress import Progress
from tasks.core.errors import PassingFault


def published(root: Path, disk_gb: float | None, progress: Progress) -> None:
    """Pushes data and models to the DVC remote, if there is one, and keeps DVC's cache within its budget.

    Raises:
        PassingFault: The remote does not take them.
    """
    count = pushed(root)
    if count is not None:
        progress.say(f"{count} files pushed to the DVC remote")
    if disk_gb is not None:
        from flows.garbage.collect import within

        freed = within(root, disk_gb)
        if freed:
            progress.say(freed)


def pushed(root: Path) -> int | None:
    """How many files went to the DVC remote; None if there is none.

    Raises:
        PassingFault: It does not take them.
    """
    repo = Repo(str(root), _wait_for_lock=True)
    if not repo.config["core"].get("remote"):
        return None
    try:
        return int(repo.push())
    except (DvcException, OSError) as error:
        raise PassingFault(f"dvc push: {error}; the results are safe here, and are pushed by the next run") from error
