"""Statements are what in-toto and SLSA ask for, and signatures are refused that do not verify."""

import base64
import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from flows.lineage.attestation import attest
from flows.lineage.find import found
from flows.lineage.signing import opened, signed
from flows.lineage.verify import verify
from tasks.core.errors import UserError

MODEL = "models/student"


def key_pair(directory: Path, name: str) -> tuple[Path, Path]:
    key = Ed25519PrivateKey.generate()
    private, public = directory / f"{name}.pem", directory / f"{name}.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


def wrong(root: Path, key: Path | None = None) -> list[str]:
    with found(root, str(root / MODEL)) as it:
        return [one.what for one in verify(it, key=key)]


def test_a_signed_statement_verifies_with_its_key_alone(workspace: Path, tmp_path: Path) -> None:
    (private, public), (_, other) = key_pair(tmp_path, "mine"), key_pair(tmp_path, "other")
    assert "there is none" in wrong(workspace, public)[0]
    file = attest(workspace, str(workspace / MODEL), private)
    envelope = json.loads(file.read_text())
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    signer = Ed25519PrivateKey.from_private_bytes(_raw(private)).public_key()
    signer.verify(base64.b64decode(envelope["signatures"][0]["sig"]), message)
    assert wrong(workspace, public) == wrong(workspace) == []
    assert wrong(workspace, other) == [f"{file.name}: its signature does not verify with other.pub"]
    envelope["payload"] = base64.b64encode(payload.replace(b'"seed": 0', b'"seed": 1')).decode()
    file.write_text(json.dumps(envelope))
    assert wrong(workspace, public) == [f"{file.name}: its signature does not verify with mine.pub"]
    assert wrong(workspace)[0].endswith("is not what the records say")


def test_an_unsigned_statement_is_refused_where_a_key_is_asked_for(workspace: Path, tmp_path: Path) -> None:
    _, public = key_pair(tmp_path, "mine")
    file = attest(workspace, str(workspace / MODEL), None)
    statement = json.loads(file.read_text())
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    subjects = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
    files = [path for path in (workspace / MODEL).rglob("*") if path.is_file()]
    wanted = {path.relative_to(workspace).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert subjects == wanted
    build, run = statement["predicate"]["buildDefinition"], statement["predicate"]["runDetails"]
    assert {"buildType", "externalParameters", "resolvedDependencies"} <= build.keys()
    assert run["builder"]["id"]
    assert run["metadata"]["startedOn"].endswith("Z")
    names = {one["name"] for one in build["resolvedDependencies"]}
    assert {"raw data", "raw model", "code", "tasks/train", "torch", "data/prepared", "models/dense"} <= names
    assert wrong(workspace) == []
    assert wrong(workspace, public) == [f"{file.name}: it is not signed, mine.pub is asked for"]


def test_a_model_whose_records_differ_is_not_attested(workspace: Path) -> None:
    (workspace / MODEL / "model.safetensors").write_bytes(b"else")
    with pytest.raises(UserError, match="its records differ: distill: files"):
        attest(workspace, str(workspace / MODEL), None)
    assert not (workspace / "attestations").exists()


def test_a_key_that_is_none_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("nothing")
    with pytest.raises(UserError, match="no public key in PEM"):
        opened({}, tmp_path / "no.pem")
    with pytest.raises(UserError, match="no private key in PEM"):
        signed(b"", tmp_path / "no.pem")


def _raw(private: Path) -> bytes:
    """The 32 bytes at the end of a PKCS#8 Ed25519 key."""
    return base64.b64decode("".join(private.read_text().splitlines()[1:-1]))[-32:]
