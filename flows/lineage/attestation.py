"""The chain of a model as an in-toto Statement with a SLSA provenance predicate, in a signed envelope where a key is.

Statement: https://in-toto.io/Statement/v1; predicate: https://slsa.dev/provenance/v1; envelope: DSSE 1.0.2.
"""

import datetime
import hashlib
import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flows.lineage.chain import Chain, Node, chain
from flows.lineage.find import Found, found
from flows.lineage.signing import Forged, opened, signed
from flows.workspace import write
from tasks.core.errors import UserError

DIRECTORY = "attestations"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD = "urn:secateur:pipeline:1"
BUILDER = "urn:secateur:runner"
TREE = "secateur_tree_sha256"
"""sha256 over the names and the sha256 of all files of a directory (tasks.core.files.tree_hash)."""


def attest(root: Path, model: str, key: Path | None) -> Path:
    """Writes the attestation of a model; signed if `key`, a private key in a PEM file, is given.

    Raises:
        UserError: Records of the chain differ, or the key cannot be used; nothing was written.
    """
    from flows.lineage.verify import verify

    with found(root, model) as it:
        wrong = next((one for one in verify(it) if one.record != "attestation"), None)
        if wrong:
            raise UserError(f"{model} is not attested, for its records differ: {wrong}")
        seen = chain(it)
        text = json.dumps(statement(seen), sort_keys=True)
        file = place(root, seen.files)
        write(file, json.dumps(signed(text.encode(), key), indent=2) + "\n" if key else f"{text}\n")
        return file


def place(root: Path, files: dict[str, str]) -> Path:
    """Where the attestation of a model with these files lies; beside the outs, which DVC has hashed."""
    name = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16]
    return root / DIRECTORY / f"{name}.intoto.json"


def check(it: Found, key: Path | None) -> Iterator[tuple[str, str, str]]:
    """Whether the attestation of a model, if there is one, says what the records say and is signed by `key`.

    Args:
        it: The model.
        key: A public key in a PEM file: then there must be one, and its signature must verify.
    """
    seen = chain(it)
    file = place(it.state.home, seen.files)
    if not file.is_file():
        if key:
            yield it.path, "attestation", f"there is none; make one: secateur lineage {it.name} --attest --key PRIVATE"
        return
    try:
        payload = opened(json.loads(file.read_text(encoding="utf-8")), key)
    except (Forged, ValueError, KeyError, TypeError) as error:
        yield it.path, "attestation", f"{file.name}: {error}"
        return
    wanted = json.loads(json.dumps(statement(seen)))
    for name, value in wanted.items():
        if name != "predicate" and payload.get(name) != value:
            yield it.path, "attestation", f"{file.name}: its {name} is not that of this model"
            return
    attested, records = payload["predicate"]["buildDefinition"], wanted["predicate"]["buildDefinition"]
    for name, value in records.items():
        if attested.get(name) != value:
            yield it.path, "attestation", f"{file.name}: its {name} is not what the records say"


def statement(seen: Chain) -> dict[str, Any]:
    """The Statement about the model's files."""
    last = seen.nodes[-1]
    started = min((node.started for node in seen.nodes if node.started), default=None)
    metadata = {"invocationId": last.mlflow, "startedOn": _time(started), "finishedOn": _time(last.ended)}
    params: dict[str, Any] = {}
    for node in seen.nodes:
        params.update(node.params)
    return {
        "_type": STATEMENT,
        "subject": [{"name": f"{seen.path}/{name}", "digest": {"sha256": hash_}} for name, hash_ in seen.files.items()],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD,
                "externalParameters": {"stage": last.stage, "params": params},
                "internalParameters": {"seed": last.seed, "device": last.device, "python": last.python},
                "resolvedDependencies": _dependencies(seen),
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": {"secateur": version("secateur")}},
                "metadata": {name: value for name, value in metadata.items() if value},
                "byproducts": [product for node in seen.nodes for product in _products(node)],
            },
        },
    }


def _dependencies(seen: Chain) -> list[dict[str, Any]]:
    """Raw data, code, packages, and what the stages on the way made."""
    found: list[dict[str, Any]] = []
    for raw in seen.raw:
        digest = {TREE: raw.sha256, "dvc_md5": raw.md5}
        known = {name: value for name, value in digest.items() if value}
        found.append({"name": f"raw {raw.name}", "uri": raw.source, **({"digest": known} if known else {})})
    commits = dict.fromkeys(node.commit for node in seen.nodes if node.commit)
    found += [{"name": "code", "uri": f"git+commit:{commit}", "digest": {"gitCommit": commit}} for commit in commits]
    code = {path: sha256 for node in seen.nodes for path, sha256 in node.code.items()}
    found += [{"name": path, "digest": {TREE: sha256}} for path, sha256 in sorted(code.items())]
    packages = {name: number for node in seen.nodes for name, number in node.packages.items()}
    found += [{"name": name, "uri": f"pkg:pypi/{name}@{number}"} for name, number in sorted(packages.items())]
    return found + [product for node in seen.nodes for product in _products(node)]


def _products(node: Node) -> list[dict[str, Any]]:
    return [
        {
            "name": out,
            "digest": {TREE: hashes["sha256"], "dvc_md5": hashes["md5"]},
            "annotations": {"stage": node.stage},
        }
        for out, hashes in node.outs.items()
    ]


def _time(stamp: int | None) -> str | None:
    """RFC 3339, in UTC."""
    if not stamp:
        return None
    return datetime.datetime.fromtimestamp(stamp / 1000, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
