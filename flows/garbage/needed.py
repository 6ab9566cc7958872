"""The hashes that must stay: of the workspace, of decisions, and of all that a registered model was made from."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dvc.utils.serialize import parse_yaml
from mlflow import MlflowClient

from flows import git
from flows.lineage.state import LOCK, Entry, entries
from flows.promotion.record import DIRECTORY
from flows.reaping.records import everywhere
from tasks.core.errors import UserError


def needed(root: Path, client: MlflowClient) -> set[str]:
    """md5 of every file or directory that must stay; a registered model needs its whole chain.

    Args:
        root: The workspace.
        client: Of MLflow, whose registry counts.
    """
    versions = list(_versions(client))
    submitted = {md5 for version in versions for md5 in version.tags.get("out_md5", "").split()}
    keep = {*submitted, *_present(root), *_behind(client, submitted)}
    decided = set(git.commits(root, DIRECTORY, everywhere=True))
    for commit in {*decided, *git.commits(root, LOCK, everywhere=True)}:
        locked = _locked(git.show(root, commit, LOCK))
        if commit in decided or any(submitted & set(entry.outs.values()) for entry in locked):
            keep |= {md5 for entry in locked for md5 in entry.hashes.values()}
            for path in git.files(root, commit, ".dvc"):
                keep |= _tracked(git.show(root, commit, path))
    return keep


def known(client: MlflowClient) -> dict[str, str]:
    """What a hash is of, as far as a record in MLflow tells."""
    found = {}
    for run in everywhere(client, ""):
        for tag, value in run.data.tags.items():
            if tag.startswith("out."):
                found[value] = f"{tag.removeprefix('out.')} (run {run.info.run_id[:8]} of {run.data.tags.get('stage')})"
    return found


def _versions(client: MlflowClient) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_model_versions(max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _present(root: Path) -> set[str]:
    """Of the workspace as it is, whether committed or not."""
    text = (root / LOCK).read_text(encoding="utf-8") if (root / LOCK).is_file() else None
    found = {md5 for entry in _locked(text) for md5 in entry.hashes.values()}
    for file in root.rglob("*.dvc"):
        if file.is_file():
            found |= _tracked(file.read_text(encoding="utf-8"))
    return found


def _behind(client: MlflowClient, outs: set[str]) -> set[str]:
    """What results were made from, by their records, where git has no dvc.lock of them."""
    records: dict[str, list[Any]] = {}
    for run in everywhere(client, ""):
        for tag, value in run.data.tags.items():
            if tag.startswith("out."):
                records.setdefault(value, []).append(run)
    seen: set[str] = set()
    waiting = list(outs)
    while waiting:
        for run in records.get(waiting.pop(), ()):
            parents = {*json.loads(run.data.tags.get("parents", "{}")).values()}
            made = {value for tag, value in run.data.tags.items() if tag.startswith("out.")}
            waiting += [md5 for md5 in parents | made if md5 not in seen]
            seen |= parents | made
    return seen


def _locked(text: str | None) -> list[Entry]:
    try:
        return list(entries(text).values()) if text else []
    except UserError:
        return []


def _tracked(text: str | None) -> set[str]:
    """Of the outs that a .dvc file names."""
    found = parse_yaml(text or "{}", ".dvc")
    return {str(out["md5"]) for out in found.get("outs", ()) if "md5" in out}
