"""The Prefect server on PostgreSQL, with a password for everyone."""

import sys

from infra.home import HOST, Home
from infra.postgresql import PostgreSQL
from infra.service import ProcessService, address, answers

USER = "secateur"


class Prefect(ProcessService):
    """API, pages, scheduler and automations."""

    name = "prefect"

    def __init__(self, home: Home, database: PostgreSQL) -> None:
        """Keeps everything in `database`, which must be up when it starts."""
        super().__init__(home)
        self.database = database

    @property
    def url(self) -> str:
        """For PREFECT_API_URL."""
        return f"{address(self.home, self.name)}/api"

    def is_up(self) -> bool:
        """Whether it answers."""
        return answers(f"{self.url}/health")

    def command(self) -> list[str]:
        """`prefect server start`; it migrates its database by itself, one process at a time."""
        listen = ("--host", HOST, "--port", str(self.home.port(self.name)))
        return [sys.executable, "-m", "prefect", "server", "start", *listen]

    def environment(self) -> dict[str, str]:
        """The database, and the password that clients must give."""
        return {
            **self.client(),
            "PREFECT_HOME": str(self.home.place("prefect", ".").resolve()),
            "PREFECT_SERVER_API_AUTH_STRING": self._word,
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.database.url("prefect", "postgresql+asyncpg"),
            "PREFECT_SERVER_DATABASE_TIMEOUT": "30",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PGPASSFILE": str(self.database.passwords),
            "DO_NOT_TRACK": "true",
            "NO_PROXY": HOST,
            "no_proxy": HOST,
        }

    def client(self) -> dict[str, str]:
        """What a client's environment must say."""
        return {"PREFECT_API_URL": self.url, "PREFECT_API_AUTH_STRING": self._word}

    @property
    def _word(self) -> str:
        return f"{USER}:{self.home.secret('prefect')}"
