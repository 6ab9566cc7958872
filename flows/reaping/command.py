"""`secateur reap`: the flow's work without a flow run of its own."""

from contextlib import ExitStack
from pathlib import Path

from flows.progress import Progress
from flows.quiet import quiet


def reap(root: Path) -> None:
    """Closes what was left open, and says how much that was.

    Raises:
        EnvironmentFault: Somebody is at work there, or a service fails.
    """
    quiet(root)
    from flows import server

    progress = Progress()
    with ExitStack() as stack:
        with progress.stage("start Prefect") as tick:
            stack.enter_context(server.api(root, lambda _: tick(None)))
        from flows.reap import closed

        progress.say(closed(root, set()))
