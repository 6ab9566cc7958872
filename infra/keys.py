"""Secrets for compose.yaml and for Kubernetes, one file each; those that are there stay.

python -m infra.keys infra/secrets
"""

import json
import secrets
import sys
from pathlib import Path

from infra.mlflow_server import AUTH, USER
from infra.postgresql import ROLES
from infra.seaweedfs import ACCESS_KEY


def make(directory: Path, host: str = "postgresql", port: int = 5432) -> None:
    """Writes the files; the directory is for its owner alone.

    Files can be read by all, for in a container they belong to another user than the one that runs there.

    Args:
        directory: Where they go.
        host: What PostgreSQL is called by its clients.
        port: Its port there.
    """
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)

    def once(name: str, text: str | None = None) -> str:
        file = directory / name
        if not file.is_file():
            file.write_text(text or secrets.token_urlsafe(24), encoding="utf-8")
        return file.read_text(encoding="utf-8")

    once("postgresql")
    owned = [(database, role) for role, databases in ROLES.items() for database in databases]
    passwords = {role: secrets.token_urlsafe(24) for role in ROLES}
    once("pgpass", "".join(f"{host}:{port}:{database}:{role}:{passwords[role]}\n" for database, role in owned))
    key = once("s3")
    identity = {"name": ACCESS_KEY, "credentials": [{"accessKey": ACCESS_KEY, "secretKey": key}], "actions": ["Admin"]}
    once("s3.json", json.dumps({"identities": [identity]}))
    once("aws-credentials", f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {key}\n")
    password = once("mlflow")
    uri = f"postgresql://mlflow@{host}/mlflow_auth"
    once("mlflow-auth.ini", AUTH.format(uri=uri, user=USER, password=password))
    once("mlflow-forms")
    once("prefect-auth", f"{USER}:{secrets.token_urlsafe(24)}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("give a directory: python -m infra.keys infra/secrets")
    make(Path(sys.argv[1]))
    print(f"secrets are in {sys.argv[1]}; keep that directory out of git and off shared disks")
