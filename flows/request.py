"""What the user of `secateur run` asked for."""

from collections.abc import Sequence
from pathlib import Path

from flows.process import PRELOAD, STAGES


class Request:
    """What the user asked for; every process of a run makes the same of it."""

    def __init__(
        self,
        root: Path,
        recipe: Path | None = None,
        overrides: Sequence[str] = (),
        force: Sequence[str] = (),
        stages: str = STAGES,
    ) -> None:
        """Keeps what was asked for.

        Args:
            root: The workspace.
            recipe: A recipe file; None is the quickstart.
            overrides: `key=value` settings on top.
            force: Names of stages, or of all items of a `foreach`, to run though nothing changed.
            stages: The module whose `run` does a stage's work.
        """
        self.root = root
        self.recipe = recipe
        self.overrides = tuple(overrides)
        self.force = tuple(force)
        self.stages = stages
        self.preload = PRELOAD if stages == STAGES else ()

    @property
    def command(self) -> list[str]:
        """The command line that asks for the same, but forces nothing: what was forced may be done."""
        recipe = [str(self.recipe)] if self.recipe else []
        settings = [part for override in self.overrides for part in ("--set", override)]
        return ["secateur", "run", *recipe, *settings]
