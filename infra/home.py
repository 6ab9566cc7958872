"""Where the servers of this machine keep what is theirs: state, logs, ports and generated secrets."""

import json
import os
import secrets
import socket
from pathlib import Path

HOST = "127.0.0.1"
PORTS = {
    "postgresql": 5433,
    "s3": 8333,
    "s3-filer": 8888,
    "s3-filer-grpc": 18888,
    "s3-master": 9333,
    "s3-master-grpc": 19333,
    "s3-volume": 8080,
    "s3-volume-grpc": 18080,
    "s3-grpc": 18333,
    "mlflow": 5000,
    "prefect": 4200,
}
"""The usual ones; another is taken where one is in use."""


class Home:
    """A directory for a set of servers, readable by its owner alone as far as secrets go."""

    def __init__(self, directory: Path, *, usual_ports: bool = True, durable: bool = True) -> None:
        """Makes the directory if need be.

        Args:
            directory: Where everything goes.
            usual_ports: Take the usual ports where they are free; otherwise any.
            durable: PostgreSQL waits for the disk; tests need not.
        """
        self.directory = directory.absolute()
        self.usual_ports = usual_ports
        self.durable = durable
        self.directory.mkdir(parents=True, exist_ok=True)

    def place(self, *parts: str) -> Path:
        """A path below the directory; the directories on the way are made."""
        path = self.directory.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def log(self, name: str) -> Path:
        """What a server says goes there."""
        return self.place("logs", f"{name}.log")

    def secret(self, name: str) -> str:
        """The secret of that name, made when it is first asked for."""
        file = self.place("secrets", name)
        if not file.is_file():
            self.private(file, secrets.token_urlsafe(24))
        return file.read_text(encoding="utf-8")

    def private(self, file: Path, text: str) -> Path:
        """Writes a file that only its owner can read, whole or not at all."""
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.partial")
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            out.write(text)
        partial.replace(file)
        return file

    def port(self, name: str) -> int:
        """The port of a server: chosen once, and kept, so that addresses outlast a restart."""
        file = self.place("ports.json")
        ports: dict[str, int] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        if name not in ports:
            ports[name] = _free(PORTS[name] if self.usual_ports else 0, set(ports.values()))
            partial = file.with_name(".ports.json.partial")
            partial.write_text(json.dumps(ports, indent=2, sort_keys=True) + "\n", encoding="utf-8")
            partial.replace(file)
        return ports[name]


def _free(wanted: int, taken: set[int]) -> int:
    """`wanted`, or a free port if something listens there or another server will."""
    for port in (wanted, *[0] * 50):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            found = int(probe.getsockname()[1])
            if found not in taken:
                return found
    raise OSError("no port is free on 127.0.0.1; stop something that listens there")
