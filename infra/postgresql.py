"""PostgreSQL from the system's package: one database and one role for each of MLflow, Prefect and the searches."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil

from infra.home import HOST
from infra.service import ENDING, PATIENCE, Service
from tasks.core.errors import EnvironmentFault

ROLES = {"mlflow": ("mlflow", "mlflow_auth"), "prefect": ("prefect",), "search": ("search",)}
"""Each role and the databases it owns."""
SUPERUSER = "secateur"
PACKAGES = Path("/usr/lib/postgresql")


def binaries() -> Path | None:
    """The directory of the newest `initdb` and `pg_ctl` of this machine."""
    versions = [path for path in PACKAGES.glob("*/bin") if (path / "initdb").is_file()]
    if versions:
        return max(versions, key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0)
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


class PostgreSQL(Service):
    """The database server: loopback and TCP alone, passwords by SCRAM."""

    name = "postgresql"

    @property
    def passwords(self) -> Path:
        """A file in the form of `~/.pgpass`: with PGPASSFILE set to it no address needs a password."""
        return self.home.directory / "secrets" / "pgpass"

    def url(self, database: str, scheme: str = "postgresql") -> str:
        """The address of a database, without its password: that is in `passwords`."""
        role = next(role for role, owned in ROLES.items() if database in owned)
        return f"{scheme}://{role}@{HOST}:{self.home.port(self.name)}/{database}"

    def is_up(self) -> bool:
        """Whether it takes connections now."""
        words = ("pg_isready", "-q", "-t", "2", "-h", HOST, "-p", str(self.home.port(self.name)))
        return self._data.is_dir() and self._run(*words).returncode == 0

    def start(self) -> None:
        """Starts it if it is not up; the first time makes the cluster, roles and databases."""
        if not self.is_up():
            self._make()
            self._launch()
        if not (self._data / "roles").is_file():
            self._grant()

    def stop(self) -> None:
        """Ends it; connections are closed."""
        if self._data.is_dir() and self._postmaster():
            self._run("pg_ctl", "-D", str(self._data), "-m", "fast", "-w", "-t", "60", "stop")

    def kill(self) -> None:
        """Ends the server and all its processes as `kill -9` does."""
        main = self._postmaster()
        if not main:
            return
        every = [main, *main.children(recursive=True)]
        for process in every:
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(every, ENDING)

    def clear(self) -> None:
        """Ends all of it at once; for what is thrown away."""
        self.kill()

    def pid(self) -> int | None:
        """The postmaster, if it lives."""
        main = self._postmaster()
        return main.pid if main else None

    @property
    def _data(self) -> Path:
        return self.home.directory / self.name / "data"

    def _make(self) -> None:
        if not binaries():
            raise EnvironmentFault(
                "PostgreSQL is not installed: there is no initdb in /usr/lib/postgresql/*/bin nor on the PATH; "
                "install it with: apt-get install postgresql (or dnf install postgresql-server)"
            )
        if (self._data / "PG_VERSION").is_file() and (self._data / "made").is_file():
            return
        shutil.rmtree(self._data, ignore_errors=True)  # initdb was cut off
        self._data.parent.mkdir(parents=True, exist_ok=True)
        if self._other:
            shutil.chown(self._data.parent, self._other["user"])
            if self._run("pg_ctl", "--version").returncode:
                raise EnvironmentFault(
                    f"PostgreSQL runs as the user postgres, for root may not; it cannot enter {self._data.parent}; "
                    "run as another user, or allow it: chmod o+x on each directory above"
                )
        password = self.home.private(self._data.parent / "superuser", self.home.secret("postgresql"))
        try:
            if self._other:
                shutil.chown(password, self._other["user"])
            words = ["-D", str(self._data), "-U", SUPERUSER, "-A", "scram-sha-256", f"--pwfile={password}"]
            words += ["-E", "UTF8", "--locale=C.UTF-8", *([] if self.home.durable else ["--no-sync"])]
            self._good(self._run("initdb", *words))
        finally:
            password.unlink()
        (self._data / "made").touch()

    def _launch(self) -> None:
        options = {
            "listen_addresses": HOST,
            "port": self.home.port(self.name),
            "unix_socket_directories": "",
            "max_connections": 200,
            "fsync": "on" if self.home.durable else "off",
        }
        said = " ".join(f"-c {name}={value}" for name, value in options.items())
        end = time.monotonic() + PATIENCE
        log = self._data.parent / "log"
        while True:  # after a kill the old processes may take a moment to notice
            done = self._run("pg_ctl", "-D", str(self._data), "-l", str(log), "-o", said, "-w", "-t", "60", "start")
            if done.returncode == 0 or self.is_up():
                return
            if time.monotonic() > end or "could not bind" in log.read_text(encoding="utf-8")[-2000:]:
                raise EnvironmentFault(f"PostgreSQL did not start; {log} says why")
            time.sleep(0.5)

    def _grant(self) -> None:
        """Roles and databases that are not there, and the file with their passwords."""
        port = self.home.port(self.name)
        lines = [f"{HOST}:{port}:*:{SUPERUSER}:{self.home.secret('postgresql')}"]
        statements = ["SET client_min_messages = warning;"]
        for role, owned in ROLES.items():
            password = self.home.secret(f"postgresql-{role}")
            lines += [f"{HOST}:{port}:{database}:{role}:{password}" for database in owned]
            statements += [
                _unless(f"pg_roles WHERE rolname = '{role}'", f"CREATE ROLE {role} LOGIN"),
                f"ALTER ROLE {role} PASSWORD '{password}';",
            ]
            for database in owned:
                statements += [
                    _unless(f"pg_database WHERE datname = '{database}'", f"CREATE DATABASE {database} OWNER {role}"),
                    f"REVOKE ALL ON DATABASE {database} FROM PUBLIC;",
                ]
        self.home.private(self.passwords, "\n".join(lines) + "\n")
        words = ["psql", "-q", "-v", "ON_ERROR_STOP=1", "-h", HOST, "-p", str(port), "-U", SUPERUSER, "postgres"]
        self._good(
            subprocess.run(
                [str(self._bin / words[0]), *words[1:]],
                input="\n".join(statements),
                env={**os.environ, "PGPASSFILE": str(self.passwords)},
                capture_output=True,
                text=True,
                check=False,
            )
        )
        (self._data / "roles").touch()

    def _good(self, done: "subprocess.CompletedProcess[str]") -> None:
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip() or "without a word").splitlines()[-1]
            raise EnvironmentFault(f"PostgreSQL could not be set up in {self._data}: {last}")

    def _postmaster(self) -> psutil.Process | None:
        file = self._data / "postmaster.pid"
        try:
            process = psutil.Process(int(file.read_text(encoding="utf-8").split()[0]))
            return process if str(self._data) in process.cmdline() else None
        except (OSError, IndexError, ValueError, psutil.Error):
            return None

    @property
    def _bin(self) -> Path:
        return binaries() or Path()

    @property
    def _other(self) -> dict[str, Any]:
        """As whom the server runs: it refuses to run as root."""
        return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}

    def _run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        directory = self._data.parent
        try:
            return subprocess.run(
                [str(self._bin / words[0]), *words[1:]],
                cwd=directory if directory.is_dir() else "/",
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                **self._other,
            )
        except PermissionError as error:  # another user cannot enter the directory
            return subprocess.CompletedProcess(words, 1, "", str(error))


def _unless(there: str, statement: str) -> str:
    """For psql: a statement that runs if that row is not in the catalogue."""
    return f"SELECT '{statement}' WHERE NOT EXISTS (SELECT FROM {there}) \\gexec"  # noqa: S608  constants of this file
