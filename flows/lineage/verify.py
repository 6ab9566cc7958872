"""`secateur verify MODEL`: every hash of a chain computed anew, every record held against the others.

secateur verify models:/quickstart@champion --evaluate
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from flows.lineage import agree, attestation
from flows.lineage.evaluated import evaluated
from flows.lineage.find import Found, found


class Difference(NamedTuple):
    """Two records that do not agree, or a record that is not there."""

    where: str
    """The stage or the source."""
    record: str
    """What is wrong, as far as can be told: files, provenance, dvc.lock, params, MLflow, git, attestation."""
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.record}: {self.what}"


def show(root: Path, model: str, as_json: bool, evaluate: bool, key: Path | None) -> int:
    """Prints what differs, the first thing first; the exit status: 1 if anything does.

    Args:
        root: The workspace.
        model: As `flows.lineage.find.found` takes it.
        as_json: For programs.
        evaluate: Whether the model predicts the test rows anew.
        key: Public key (PEM) that an attestation must be signed with; None: none need be.
    """
    with found(root, model) as it:
        differences = list(verify(it, evaluate, key))
        stages = it.state.upstream(it.entry.name)
    if as_json:
        facts = {"model": it.name, "path": it.path, "stages": [entry.name for entry in stages]}
        print(json.dumps({**facts, "differences": [one._asdict() for one in differences]}, indent=2))
    elif differences:
        print(f"first difference: {differences[0]}")
        for other in differences[1:]:
            print(f"      and further: {other}")
    else:
        signed = f", signed by the key in {key.name}" if key else ""
        again = "; evaluated again, with the same result" if evaluate else ""
        print(f"{it.path}: {len(stages)} stages verified, all records agree{signed}{again}")
    sys.stdout.flush()
    return 1 if differences else 0


def verify(it: Found, evaluate: bool = False, key: Path | None = None) -> Iterator[Difference]:
    """What differs, in the order of the chain: raw data first, then stage by stage, then the model itself."""
    entries = it.state.upstream(it.entry.name)
    for check in (
        agree.sources(it, entries),
        *(agree.stage(it, entry) for entry in entries),
        agree.registered(it),
        agree.decided(it),
        agree.copied(it),
        attestation.check(it, key),
        evaluated(it) if evaluate else (),
    ):
        for where, record, what in check:
            yield Difference(where, record, what)
