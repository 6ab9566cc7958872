"""`secateur promote` and `secateur rollback`: which model is the champion."""

import datetime
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, chdir, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flows import git
from flows.dag import Dag
from flows.database import address, words
from flows.facts import facts
from flows.lineage.attestation import place
from flows.lineage.find import Found, found
from flows.lineage.hashes import Hashes
from flows.lineage.records import MODELS, Records
from flows.lineage.state import LOCK
from flows.promotion import champion
from flows.promotion.gate import Check, judge
from flows.promotion.record import decisions
from flows.promotion.transaction import CHALLENGER, CHAMPION, PREVIOUS, Record, aliases, carry_out, recover
from flows.registry import Registry
from flows.status import status
from flows.workspace import PIPELINE, locked
from tasks.core.errors import EnvironmentFault, UserError
from tasks.core.files import tree_hash
from tasks.recipe.load import read
from tasks.recipe.schema import Recipe


@dataclass(frozen=True)
class Grounds:
    """What a retraining adds to the evidence, and what it asks to be kept with the decision."""

    pipeline: str
    """The state of the pipeline that was judged: `Dag.state`."""
    data: list[Check]
    """What was found of the data."""
    committed: tuple[str, ...]
    """Files beside dvc.lock and the params: the data, or the .dvc file that names them."""
    command: str


def promote(
    root: Path, model: str | None = None, flow_run: str | None = None, grounds: Grounds | None = None
) -> Record | None:
    """Submits a model of the last run to the gate, and records what comes of it.

    Args:
        root: The workspace.
        model: Its name or directory; None: the best of the run.
        flow_run: Id of the Prefect flow run that asks, if one does.
        grounds: What a retraining found before.

    Returns:
        The record: a promotion or a refusal; None if the model is the champion already.

    Raises:
        UserError: There is no such model in the last run.
        EnvironmentFault: A pipeline runs in the workspace, or a service fails.
    """
    with _holding(root):
        recipe = read(root / PIPELINE)
        if grounds and _state(root) != grounds.pipeline:
            raise EnvironmentFault("another command changed the workspace meanwhile; run again")
        with found(root, model or _best(root)) as it:
            if it.state.commit or it.version:
                raise UserError(
                    f"{it.name} is registered already; secateur rollback goes back to the previous champion"
                )
            version = _submitted(it, recipe)
            before = aliases(it.records.client, recipe.name)
            if before[CHAMPION] == version:
                return None
            with _champion(it, recipe, before[CHAMPION]) as (reference, theirs):
                checks, figures = judge(it, reference, theirs, recipe)
            if grounds:
                checks = [*grounds.data, *checks]
            missed = [check.because for check in checks if not check.met]
            after = {**before, CHALLENGER: version}
            if not missed:
                after = {CHAMPION: version, PREVIOUS: before[CHAMPION], CHALLENGER: None}
            runs = {entry.name: it.records.of(entry) for entry in it.state.upstream(it.entry.name)}
            attestation = place(root, it.state.hashes.files(it.path)).relative_to(root).as_posix()
            return carry_out(
                root,
                {
                    **_who(root, grounds.command if grounds else f"secateur promote {model or ''}".strip(), flow_run),
                    **({"pipeline": grounds.pipeline} if grounds else {}),
                    "decision": "refusal" if missed else "promotion",
                    "because": "; ".join(missed) or "every check is met",
                    "experiment": recipe.name,
                    "model": {"name": recipe.name, "version": version, **_facts(it)},
                    "before": before,
                    "after": after,
                    "checks": [asdict(check) for check in checks],
                    "evidence": figures,
                    "thresholds": recipe.promote.model_dump(mode="json"),
                    "runs": {name: run and run.info.run_id for name, run in runs.items()},
                    "committed": [LOCK, PIPELINE.as_posix(), attestation, *(grounds.committed if grounds else ())],
                },
            )


def rollback(root: Path, because: str, flow_run: str | None = None) -> Record:
    """Makes the previous champion the champion again, and records it.

    Args:
        root: The workspace.
        because: Why; it stands in the record.
        flow_run: Id of the Prefect flow run that asks, if one does.

    Raises:
        UserError: There is no previous champion.
        EnvironmentFault: Its files are no longer what was registered, or a service fails.
    """
    with _holding(root):
        recipe = read(root / PIPELINE)
        records = Records(root, recipe.name)
        before = aliases(records.client, recipe.name)
        if before[PREVIOUS] is None:
            raise UserError(f"{recipe.name} has no previous champion to go back to; see secateur history")
        version = records.version(f"{MODELS}{recipe.name}/{before[PREVIOUS]}")
        with champion.files(records, version) as files:
            model = {"files": Hashes(files).files(".")}
            check = Check("files", True, None, None, f"sha256 {tree_hash(files)}, as registered")
        earlier = [*stack(decisions(root), recipe.name), None, None, None]
        kept = ("stage", "path", "out_md5", "sha256")
        return carry_out(
            root,
            {
                **_who(root, "secateur rollback", flow_run),
                "decision": "rollback",
                "because": because,
                "experiment": recipe.name,
                "model": {
                    "name": recipe.name,
                    "version": str(version.version),
                    **{name: version.tags.get(name) for name in kept},
                    **model,
                },
                "before": before,
                "after": {**before, CHAMPION: before[PREVIOUS], PREVIOUS: earlier[2]},
                "checks": [asdict(check)],
                "evidence": {},
                "thresholds": {},
                "runs": {str(version.tags.get("stage")): version.run_id},
                "committed": [],
            },
        )


def stack(records: Sequence[Record], name: str) -> list[str]:
    """Champions, the present one first: each promotion puts one on top, each rollback takes one away."""
    found: list[str] = []
    for record in records:
        if record["model"]["name"] == name and record["decision"] == "promotion":
            found.insert(0, record["model"]["version"])
        elif record["model"]["name"] == name and record["decision"] == "rollback":
            found = found[1:]
    return found


@contextmanager
def _holding(root: Path) -> Iterator[None]:
    """The workspace, with a decision that was cut off finished."""
    with locked(root), words(address(root)):
        recover(root)
        yield


def _state(root: Path) -> str:
    with chdir(root):  # DVC looks for stages from the current directory
        return Dag(root).state()


def _best(root: Path) -> str:
    found = status(root)
    if not found["budget"]["best"]:
        raise UserError(found["note"] or "no model of the last run keeps the quality; name one: secateur promote MODEL")
    return str(found["budget"]["best"])


def _submitted(it: Found, recipe: Recipe) -> str:
    """The candidate as a version of the recipe's registered model."""
    run = it.records.of(it.entry)
    if run is None:
        raise UserError(f"{it.name} has no record in MLflow; secateur run writes it")
    client = it.records.client
    experiment = client.get_experiment_by_name(recipe.name).experiment_id
    registry = Registry(client, client.tracking_uri, experiment, recipe.name)
    made = facts(it.entry.name, it.entry.outs, it.entry.hashes)
    return registry.submit(
        it.directory, run.info.run_id, {**made, "path": it.path, "sha256": str(it.state.hashes.sha256(it.path))}
    )


@contextmanager
def _champion(it: Found, recipe: Recipe, version: str | None) -> Iterator[tuple[Path, Path | None]]:
    """Directories of the champion and of the data that it learned from, if these are others than the candidate's.

    Where there is no champion, the dense model of this run takes its place.
    """
    if version is None:
        yield it.state.root / "models" / "dense", None
        return
    with (
        champion.files(it.records, it.records.version(f"{MODELS}{recipe.name}/{version}")) as files,
        ExitStack() as stack,
    ):
        theirs = None
        if recipe.promote.earlier_margin is not None:
            there = stack.enter_context(champion.data(it.state.home, recipe.name, version))
            theirs = None if tree_hash(there) == it.state.hashes.sha256(champion.PREPARED) else there
        yield files, theirs


def _facts(it: Found) -> dict[str, Any]:
    return {
        "path": it.path,
        "stage": it.entry.name,
        "out_md5": " ".join(it.entry.outs.values()),
        "sha256": it.state.hashes.sha256(it.path),
        "files": it.state.hashes.files(it.path),
    }


def _who(root: Path, command: str, flow_run: str | None) -> dict[str, Any]:
    """Id, time and origin of a decision; the workspace's commit before it."""
    now = datetime.datetime.now(datetime.UTC)
    return {
        "id": f"{now:%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:8]}",
        "time": now.isoformat(timespec="seconds"),
        "by": git.who(root),
        "command": command,
        "flow_run": flow_run,
        "commit": git.head(root),
    }
