"""Commands of operation: retrain, reap, gc."""

from pathlib import Path
from typing import Annotated

import typer

operation = typer.Typer()


@operation.command()
def retrain(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe file or the name of one; none: quickstart.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting: train.epochs=2.")
    ] = None,
) -> None:
    """Fetch and check new data; if anything changed, run what must, and let the gate decide about the champion."""
    from flows.progress import Progress
    from flows.request import Request
    from flows.retraining.command import retrain as work
    from flows.workspace import find

    raise typer.Exit(work(Request(find(Path.cwd()), recipe, settings or ()), Progress()))


@operation.command()
def reap() -> None:
    """Close what killed runs of this workspace left open in Prefect, MLflow and Optuna."""
    from flows.reaping.command import reap as work
    from flows.workspace import find

    work(find(Path.cwd()))


@operation.command()
def gc(
    remove: Annotated[bool, typer.Option("--remove", help="Do it; without this only show what would go.")] = False,
) -> None:
    """Free disk of what neither this workspace nor a registered or promoted model needs."""
    from flows.quiet import quiet
    from flows.workspace import find

    root = find(Path.cwd())
    quiet(root)
    from flows.garbage.collect import show as work

    work(root, remove)
