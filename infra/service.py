"""A server as a process of its own that outlives the command that starts it, and can be found again after any kill."""

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from infra.home import HOST, Home
from tasks.core.errors import EnvironmentFault

MARK = "SECATEUR_SERVICE"
"""In the environment of every process of a service: which one it is of."""
PATIENCE = 120.0
"""Seconds to come up; the first start of a server makes its database."""
ENDING = 20.0
"""Seconds within which what is killed is gone."""


class Service(ABC):
    """One server."""

    name: str

    def __init__(self, home: Home) -> None:
        """Keeps its state in `home`; nothing is started."""
        self.home = home
        self._child: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def is_up(self) -> bool:
        """Whether it answers now."""

    @abstractmethod
    def start(self) -> None:
        """Starts it if it is not up, and returns when it answers; what a kill left of it is cleared away."""

    @abstractmethod
    def stop(self) -> None:
        """Ends it in good order; all of it is gone afterwards."""

    @abstractmethod
    def kill(self) -> None:
        """Ends it as `kill -9` does."""

    @abstractmethod
    def clear(self) -> None:
        """Ends all of it at once, what it started too; for what is thrown away."""


class ProcessService(Service):
    """A server that is a command; subclasses say which."""

    ending = 20.0
    """Seconds to end by itself before it is killed."""
    whole = True
    """All processes below it are the server's own; those of a worker are flows, which outlive it."""

    @abstractmethod
    def command(self) -> list[str]:
        """The command; no secret is in it, for everyone on the machine sees it."""

    def environment(self) -> Mapping[str, str]:
        """Variables on top of this process's own."""
        return {}

    def directory(self) -> Path:
        """Where it runs."""
        directory = self.home.place(self.name)
        directory.mkdir(exist_ok=True)
        return directory

    def prepare(self) -> None:
        """What must be there before it starts: files, a migrated database."""

    def settle(self) -> None:
        """What is to be made in it once it answers, unless it is there."""

    def start(self) -> None:
        """Starts it if it is not up, and returns when it answers; what a kill left of it is cleared away."""
        if not self.is_up():
            if self.whole:
                self.kill()
            elif self._main():
                return
            self.prepare()
            self._launch()
            self._await()
        self.settle()

    def stop(self) -> None:
        """Ends it in good order; all of it is gone afterwards."""
        found = list(self._processes())
        main = [process for process in found if process.pid == self._pid()]
        _end(main or found, signal.SIGTERM)
        psutil.wait_procs(found, self.ending)
        _end(self._processes(), signal.SIGKILL)
        self._gone()

    def kill(self) -> None:
        """Ends it as `kill -9` does."""
        found = list(self._processes()) if self.whole else self._main()
        _end(found, signal.SIGKILL)
        psutil.wait_procs(found, ENDING)
        self._gone()

    def clear(self) -> None:
        """Ends all of it at once, what it started too; for what is thrown away."""
        found = list(self._processes())
        _end(found, signal.SIGKILL)
        psutil.wait_procs(found, ENDING)
        self._gone()

    def pid(self) -> int | None:
        """The process that was started, if it lives."""
        return next((process.pid for process in self._main()), None)

    def run(self, command: list[str], **variables: str) -> None:
        """A command that prepares the server, such as a migration.

        Raises:
            EnvironmentFault: It failed; the message has its last line.
        """
        env = {**os.environ, **self.environment(), **variables}
        done = subprocess.run(command, cwd=self.directory(), env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            with self.home.log(self.name).open("a", encoding="utf-8") as log:
                log.write(done.stdout + done.stderr)
            last = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            raise EnvironmentFault(
                f"{self.name}: preparing it failed ({last[-1].strip() if last else 'without a word'}); "
                f"{self.home.log(self.name)} says more"
            )

    def _launch(self) -> None:
        with self.home.log(self.name).open("ab") as log:
            self._child = subprocess.Popen(
                self.command(),
                cwd=self.directory(),
                env={**os.environ, **self.environment(), MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.home.place("pids", self.name).write_text(f"{self._child.pid}\n", encoding="utf-8")

    def _await(self) -> None:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if self._child and self._child.poll() is not None:
                raise EnvironmentFault(
                    f"{self.name} ended with status {self._child.returncode} while it started; "
                    f"{self.home.log(self.name)} says why"
                )
            if self.is_up():
                return
            time.sleep(0.1)
        self.kill()
        raise EnvironmentFault(
            f"{self.name} did not answer in {PATIENCE:.0f} s and was ended; {self.home.log(self.name)} says why"
        )

    @property
    def _mark(self) -> str:
        return f"{self.home.directory}:{self.name}"

    def _pid(self) -> int | None:
        file = self.home.place("pids", self.name)
        text = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
        return int(text) if text.isdigit() else None

    def _main(self) -> list[psutil.Process]:
        pid = self._pid()
        return [process for process in self._processes() if process.pid == pid]

    def _processes(self) -> Iterator[psutil.Process]:
        """By their mark: a pid may be another's by now."""
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    yield process
            except psutil.Error:
                continue

    def _gone(self) -> None:
        if self._child:
            self._child.wait()
            self._child = None


def answers(url: str) -> bool:
    """Whether an address on the loopback answers, be it with a refusal; a proxy is not for the loopback."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(url, timeout=5).close()
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False
    return True


def address(home: Home, name: str) -> str:
    """`http://127.0.0.1:PORT` of a server."""
    return f"http://{HOST}:{home.port(name)}"


def _end(processes: "Iterator[psutil.Process] | list[psutil.Process]", how: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(how)
        except psutil.NoSuchProcess:
            continue
