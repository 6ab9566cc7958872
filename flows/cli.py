"""The `secateur` command. Nothing heavy is imported before a command asks for it: `--help` is quick."""

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from flows.cli_operation import operation
from flows.cli_records import records
from tasks.core.errors import EnvironmentFault, UserError

app = typer.Typer(
    name="secateur",
    help="Compresses a transformer language model to a budget, and shows the evidence.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
TERMINATED = 143
PIPE = 141
MACHINE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


@app.command()
def run(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe file or the name of one; none: quickstart.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting: train.epochs=2.")
    ] = None,
    force: Annotated[
        list[str] | None, typer.Option("--force", metavar="STAGE", help="Run this stage though nothing changed.")
    ] = None,
) -> None:
    """Make every stage up to date: what changed runs, what did not is kept."""
    from flows.progress import Progress
    from flows.request import Request
    from flows.run import run as work
    from flows.workspace import find

    root = find(Path.cwd())
    progress = Progress()
    if not work(Request(root, recipe, settings or (), force or ()), progress):
        progress.say("nothing to run: every stage is up to date")
    _show(root)


@app.command()
def search(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe with a search section; none: quickstart.")] = None,
    trials: Annotated[int, typer.Option(help="How many there are to be, with those done before.")] = 20,
    workers: Annotated[int, typer.Option(help="Processes on this machine.")] = 1,
    timeout: Annotated[float | None, typer.Option(help="Seconds after which no trial is begun.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the search; none: the recipe's.")] = None,
    apply: Annotated[str | None, typer.Option(metavar="TRIAL", help="Make this trial, or best, by a run.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting: search.sampler=gp.")
    ] = None,
) -> None:
    """Try recipes of a space, cheaply first; or make the model of a trial again, as a run of its own."""
    from flows.progress import Progress
    from flows.workspace import find

    root = find(Path.cwd())
    if apply is None:
        from flows.search.run import search as work

        work(root, recipe, settings or (), name, trials, workers, timeout, Progress())
        return
    from flows.search.apply import apply as again

    again(root, recipe, settings or (), name, apply, Progress())
    _show(root)


@app.command()
def solve(
    recipe: Annotated[Path | None, typer.Argument(help="The recipe that was searched; none: quickstart.")] = None,
    latency: Annotated[str | None, typer.Option(metavar="N×", help="So many times as fast at batch 1: 2x.")] = None,
    flops: Annotated[float | None, typer.Option(help="Share of the dense model's FLOPs that may stay.")] = None,
    parameters: Annotated[float | None, typer.Option(help="The same of its parameters.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the search; none: the recipe's.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="As it was searched.")
    ] = None,
) -> None:
    """Make a recipe for another budget from a finished search, without a new training of the search."""
    from flows.progress import Progress
    from flows.search.solve import goal
    from flows.search.solve import solve as work
    from flows.workspace import find

    cost, wanted = goal(latency, flops, parameters)
    work(find(Path.cwd()), recipe, settings or (), name, cost, wanted, Progress())


@app.command()
def stage(name: Annotated[str, typer.Argument(help="As in dvc.yaml: train, prune@r1.")]) -> None:
    """Run the work of one stage; dvc.yaml calls it."""
    from flows.stage import stage as work
    from flows.workspace import find

    work(find(Path.cwd()), name)


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Show what the last run reached, and whether it meets the budget: exit status 0 if so, 1 if not."""
    from flows.status import show
    from flows.workspace import find

    raise typer.Exit(show(find(Path.cwd()), as_json))


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="dense, pruned, student, a quantized one, or a directory.")],
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts, or for questions JSON; none: lines of standard input.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts that the model sees at once.")] = 32,
    window: Annotated[
        int | None, typer.Option(min=1, help="Lines read before the first is answered; they are batched by length.")
    ] = None,
    new_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens that a causal model adds.")] = None,
) -> None:
    """Label texts, answer questions or go on with texts, by one of the models of the last run."""
    from flows.predict import predict as work

    work(model, texts or [], batch_size, window, new_tokens)


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="dense, r2, student, pruned-dynamic, …")],
    directory: Annotated[Path, typer.Argument(help="A new one.")],
) -> None:
    """Hand a model of the last run over: a directory with its card, which loads without Secateur."""
    from flows.export import export as work

    work(model, directory)


@app.command()
def bench(models: Annotated[list[str] | None, typer.Argument(help="Models or directories; none: all.")] = None) -> None:
    """Time models side by side on this machine."""
    from flows.bench import bench as work

    work(models or [])


@app.command()
def doctor() -> None:
    """Check that this machine has what a run needs."""
    from flows.doctor import doctor as work

    raise typer.Exit(work())


@app.command()
def ui() -> None:
    """Show the pages of Prefect and MLflow for this workspace."""
    from flows.ui import ui as work

    raise typer.Exit(work())


app.add_typer(operation)
app.add_typer(records)


def main() -> None:
    """The entry point: every way to end has its exit status, and the known ones have one message."""
    with ends():
        app()


@contextmanager
def ends() -> Iterator[None]:
    """Turns what is raised inside into a message and an exit status."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except UserError as error:
        _end(str(error), 2)
    except EnvironmentFault as error:
        _end(str(error), 1)
    except BrokenPipeError:  # whoever read our output wants no more, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(PIPE)
    except OSError as error:
        if error.errno not in MACHINE_ERRNOS:
            raise
        _end(f"{error.strerror}: {error.filename or 'this machine'}; put that right and run again", 1)
    except KeyboardInterrupt:
        _end("interrupted; the same command goes on from here", INTERRUPTED)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _end("interrupted; the same command goes on from here", INTERRUPTED)
        raise


def _end(message: str, status: int) -> None:
    from flows.redact import redacted

    print(f"secateur: {redacted(message)}", file=sys.stderr)
    sys.exit(status)


def _terminate(*_: object) -> None:
    """SIGTERM unwinds like Ctrl-C, so that nothing is left running."""
    raise SystemExit(TERMINATED)


def _show(root: Path) -> None:
    """Prints the verdict of the run."""
    from flows.status import show

    show(root)


if __name__ == "__main__":
    main()
