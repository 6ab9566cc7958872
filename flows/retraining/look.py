"""Whether a retraining has anything to do: DVC says whether a stage must run, and the last one what it judged."""

import json
from dataclasses import dataclass
from pathlib import Path

from flows.progress import Progress
from flows.promotion.record import decisions
from flows.request import Request
from flows.retraining.fetch import fetched
from flows.session import opened
from flows.workspace import check, locked, private, write
from tasks.recipe.load import resolve

DONE = "retrained.json"
"""The last retraining that came to its end: which state of the pipeline it left, and how it ended."""


@dataclass(frozen=True)
class Seen:
    """What there is to do."""

    source: Path
    """The data."""
    first: str | None
    """The first stage that must run; None: none must."""
    pipeline: str
    """The state of the pipeline: code, data, params."""
    judged: bool
    """Whether the result of this state was held against the champion, and all that follows was done."""

    @property
    def unchanged(self) -> bool:
        """Whether there is nothing to do."""
        return self.first is None and self.judged


def look(request: Request, progress: Progress) -> Seen:
    """Fetches the data, and looks at what they change. Every result that is up to date has its record afterwards.

    Raises:
        UserError: A mistake in the recipe, the workspace or the data.
        EnvironmentFault: Another run holds the workspace, or a service fails.
    """
    recipe = resolve(request.recipe, request.overrides)
    check(request.root)
    with locked(request.root):
        source = fetched(request.root, recipe.data.source)
    with opened(request, progress) as session:
        first, pipeline = session.first_to_run(), session.dag.state()
        if first is None:
            session.record()
            session.tracker.close("FINISHED")
    return Seen(source, first, pipeline, _last(request.root) == pipeline)


def done(root: Path, pipeline: str, outcome: str) -> None:
    """Notes that a retraining came to its end."""
    write(private(root, DONE), json.dumps({"pipeline": pipeline, "outcome": outcome}, indent=2) + "\n")


def _last(root: Path) -> str | None:
    """The state that was judged last; in a fresh clone the decisions tell."""
    file = private(root, DONE)
    if file.is_file():
        return str(json.loads(file.read_text(encoding="utf-8"))["pipeline"])
    return next((record["pipeline"] for record in reversed(decisions(root)) if "pipeline" in record), None)
