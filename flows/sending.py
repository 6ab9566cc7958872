"""What a tracking server is to take: sent now, or again when it answers."""

import time
import urllib.error
import urllib.request
from collections.abc import Callable

from flows.checks import opener
from flows.database import Away

PATIENCE = 90.0
"""Seconds that an end waits for a server that is away."""
POLL = 2.0


class Sending:
    """To one server; one in the workspace itself is never away, it fails."""

    def __init__(self, uri: str, send: Callable[[], None], meanwhile: str, say: Callable[[str], None]) -> None:
        """Sends nothing yet.

        Args:
            uri: The server's.
            send: Sends what it has yet to take, all of it; raises Away when it does not answer.
            meanwhile: What happens while it is away.
            say: Told when it goes away, and when it is back.
        """
        self.uri, self._send, self._meanwhile, self._say = uri, send, meanwhile, say
        self.away = ""
        """Why it does not answer."""

    def send(self) -> bool:
        """Sends; whether all was taken.

        Raises:
            EnvironmentFault: The server refuses it, or the database is this workspace's own and fails.
        """
        if self.away and not answers(self.uri):
            return False
        try:
            self._send()
        except Away as error:
            if not self.uri.startswith("http"):
                raise
            if not self.away:
                self._say(f"{error}; {self._meanwhile}")
            self.away = str(error)
            return False
        if self.away:
            self._say("MLflow answers again")
            self.away = ""
        return True

    def settle(self, otherwise: str) -> None:
        """Returns when all was taken.

        Raises:
            Away: The server stays away, and `otherwise`.
        """
        end = time.monotonic() + PATIENCE
        while not self.send():
            if time.monotonic() > end:
                raise Away(f"{self.away}; {otherwise}")
            time.sleep(POLL)


def answers(uri: str) -> bool:
    """Whether an MLflow server answers, asked once and quickly."""
    try:
        opener(uri).open(f"{uri.rstrip('/')}/health", timeout=3).close()
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False
    return True
