"""Commands about the records of models: lineage, verify, reproduce, promote, rollback, history."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from tasks.core.errors import UserError

records = typer.Typer()
MODEL = "A directory, a name of the last run, models:/NAME@ALIAS, or the sha256 of a file."


@records.command()
def lineage(
    model: Annotated[str, typer.Argument(help=MODEL)],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    html: Annotated[Path | None, typer.Option(help="Draw it as a page in this file.")] = None,
    mermaid: Annotated[Path | None, typer.Option(help="Draw it as a Mermaid flowchart in this file.")] = None,
    attest: Annotated[bool, typer.Option("--attest", help="Write it as an in-toto statement too.")] = False,
    key: Annotated[Path | None, typer.Option(help="Private key (PEM) that signs the statement.")] = None,
) -> None:
    """Show what a model was made from, step by step, with every record of it."""
    if key and not attest:
        raise UserError("--key signs an attestation; give --attest too")
    root = _workspace()
    from flows.lineage.attestation import attest as write
    from flows.lineage.show import show as work

    if attest:
        print(f"attested in {write(root, model, key).relative_to(root)}", file=sys.stderr)
    work(root, model, as_json, html, mermaid)


@records.command()
def verify(
    model: Annotated[str, typer.Argument(help=MODEL)],
    evaluate: Annotated[bool, typer.Option("--evaluate", help="Let it predict the test rows anew.")] = False,
    key: Annotated[Path | None, typer.Option(help="Public key (PEM) that its attestation must be signed with.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Compute every hash behind a model anew and hold all records against each other: exit status 1 if any differs."""
    root = _workspace()
    from flows.lineage.verify import show as work

    raise typer.Exit(work(root, model, as_json, evaluate, key))


@records.command()
def reproduce(model: Annotated[str, typer.Argument(help=MODEL)]) -> None:
    """Make a model once more from its record, in a clean work tree: exit status 1 if other bytes come out."""
    root = _workspace()
    from flows.lineage.reproduce import reproduce as work

    raise typer.Exit(work(root, model))


@records.command()
def promote(
    model: Annotated[str | None, typer.Argument(help="A model of the last run; none: the best.")] = None,
) -> None:
    """Make a model the champion if it passes the gate: exit status 1 if it is refused."""
    root = _workspace()
    from flows.promotion.show import promote as work

    raise typer.Exit(work(root, model))


@records.command()
def rollback(because: Annotated[str, typer.Option(help="Why; it is kept in the record.")] = "on command") -> None:
    """Make the previous champion the champion again."""
    root = _workspace()
    from flows.promotion.show import rollback as work

    raise typer.Exit(work(root, because))


@records.command()
def history(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Show every promotion, refusal and rollback, with what it rested on."""
    root = _workspace()
    from flows.promotion.show import history as work

    work(root, as_json)


def _workspace() -> Path:
    """The workspace; what is imported after this is quiet."""
    from flows.quiet import quiet
    from flows.workspace import find

    root = find(Path.cwd())
    quiet(root)
    return root
