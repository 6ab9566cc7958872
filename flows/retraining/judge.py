"""The gate at the end of a retraining: the new best model against the champion, once for each state."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flows import git
from flows.lineage.attestation import attest
from flows.lineage.state import LOCK
from flows.promotion.gate import Check
from flows.promotion.promote import Grounds, promote
from flows.promotion.record import decisions
from flows.promotion.transaction import CHAMPION, Record
from flows.request import Request
from flows.retraining.fetch import kept
from flows.status import status
from flows.workspace import PIPELINE, locked
from tasks.recipe.load import read

SIGNING_KEY = "SECATEUR_SIGNING_KEY"
"""Names a private key (a PEM file): the best model is attested with it, for a gate that asks for a signature."""


@dataclass(frozen=True)
class Verdict:
    """What came of a retraining."""

    outcome: str
    """unchanged, promoted, refused, champion (it is the same model), none (no model keeps the quality), unfit (the
    data), abandoned (others changed the registry), failed."""
    because: str
    record: str | None = None
    """Id of the decision."""
    version: str | None = None
    model: str | None = None
    champion: str | None = None
    """The version that is the champion now."""


def judged(request: Request, pipeline: str, data: list[Check], flow_run: str | None) -> Verdict:
    """Submits the best model of the run to the gate, unless that was done before a kill.

    Args:
        request: What was asked for.
        pipeline: The state of the pipeline that is judged.
        data: What was found of the data.
        flow_run: Id of the Prefect flow run.
    """
    root = request.root
    last = next((record for record in reversed(decisions(root)) if "pipeline" in record), None)
    if last and last["pipeline"] == pipeline:
        return _verdict(last)
    found = status(root)
    committed = kept(root, read(root / PIPELINE).data.source)
    if not found["budget"]["best"]:
        _committed(root, committed, "Retraining: no model keeps the quality")
        return Verdict("none", found["note"] or "no model of the run keeps the quality that the budget asks for")
    if key := os.environ.get(SIGNING_KEY):
        attest(root, found["budget"]["best"], Path(key))
    grounds = Grounds(pipeline, data, committed, " ".join(("secateur", "retrain", *request.command[2:])))
    record = promote(root, None, flow_run, grounds)
    if record is None:
        _committed(root, committed, "Retraining: the champion is made again")
        return Verdict("champion", f"{found['budget']['best']} is the champion already, byte for byte")
    return _verdict(record)


def _committed(root: Path, paths: Sequence[str], words: str) -> None:
    """Commits what was made, where no decision does."""
    there = [path for path in (LOCK, PIPELINE.as_posix(), *paths) if (root / path).is_file()]
    with locked(root):
        git.commit(root, there, words)


def _verdict(record: Record) -> Verdict:
    outcome: str = {"promotion": "promoted", "refusal": "refused"}.get(record["decision"]) or record["decision"]
    model = record["model"]
    return Verdict(outcome, record["because"], record["id"], model["version"], model["path"], record["after"][CHAMPION])
