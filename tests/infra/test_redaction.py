"""Planted secrets are searched for in everything that a run leaves behind: files, both databases, S3, logs."""

import subprocess
from pathlib import Path

import boto3
import pytest

from infra.postgresql import SUPERUSER, binaries
from infra.stack import Stack
from tests.flows.conftest import drive, make_workspace

PLANTED = {"HF_TOKEN": "planted-hf-token", "MY_API_KEY": "planted-api-key"}


def dumped(stack: Stack) -> str:
    """Every row of every database, as PostgreSQL's own tool writes them."""
    found = []
    for database in ("mlflow", "prefect", "search"):
        bin_, port = binaries(), str(stack.home.port("postgresql"))
        assert bin_
        words = [
            str(bin_ / "pg_dump"),
            "-h",
            "127.0.0.1",
            "-p",
            port,
            "-U",
            SUPERUSER,
            "--data-only",
            "--inserts",
            database,
        ]
        env = {"PGPASSFILE": str(stack.postgresql.passwords)}
        found.append(subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout)
    return "\n".join(found)


def stored(stack: Stack) -> str:
    """What lies in S3."""
    client = boto3.client("s3", endpoint_url=stack.s3.url)
    found = []
    for page in client.get_paginator("list_objects_v2").paginate(Bucket="mlflow"):
        keys = [entry["Key"] for entry in page.get("Contents", [])]
        found += [client.get_object(Bucket="mlflow", Key=key)["Body"].read().decode(errors="replace") for key in keys]
    return "\n".join(found)


def written(root: Path) -> str:
    return "\n".join(file.read_text(errors="replace") for file in root.rglob("*") if file.is_file())


@pytest.mark.long
def test_no_secret_is_left_anywhere(client: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    root = make_workspace(tmp_path / "workspace")
    (root / "orders" / "finetune@r1").write_text("leak")
    run = drive(root, "run", "--set", "seed=3", "--set", "name=redaction")
    said, errors = run.communicate(timeout=300)
    assert run.returncode == 1
    (root / "orders" / "finetune@r1").unlink()
    run = drive(root, "run", "--set", "seed=3", "--set", "name=redaction")
    more = "".join(run.communicate(timeout=300))
    assert run.returncode == 0, more
    secrets = [*PLANTED.values(), "planted-in-address"]
    secrets += [file.read_text() for file in stack_secrets(client)]
    places = {
        "terminal": said + errors + more,
        "workspace": written(root),
        "databases": dumped(client),
        "S3": stored(client),
        "logs of the servers": written(client.home.place("logs")),
    }
    for place, text in places.items():
        assert len(text) > 100, place
        assert not [secret for secret in secrets if secret in text], place
    assert "***" in places["terminal"]
    assert "***" in places["databases"]


def stack_secrets(stack: Stack) -> list[Path]:
    """Those of one word; MLflow keeps a hash of its own, PostgreSQL a SCRAM verifier."""
    return [file for file in stack.home.place("secrets").iterdir() if "\n" not in file.read_text()]
