"""Runs a command so that it, and all it starts, ends when the process that asked for it ends, in whatever way.

python -m flows.guardian COMMAND...

The parent holds the other end of standard input: when that closes, the command's process group is ended. The command
is told by the kernel as well, should this process be killed.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

from flows.child import die_with_parent

PATIENCE = 8.0
"""Seconds between asking the command to end and killing it."""


def guard(command: list[str]) -> int:
    """Runs `command` in a process group of its own until it ends or standard input closes; its exit status."""
    own = os.getpid()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: die_with_parent(own),
    ) as process:
        signal.signal(signal.SIGTERM, lambda *_: _end(process, signal.SIGTERM))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which closes the pipe
        threading.Thread(target=_watch, args=(process,), daemon=True).start()
        try:
            return process.wait()
        finally:
            _end(process, signal.SIGKILL)  # what the command left of its group


def _watch(process: "subprocess.Popen[bytes]") -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    _end(process, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE)
    _end(process, signal.SIGKILL)


def _end(process: "subprocess.Popen[bytes]", how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, how)


if __name__ == "__main__":
    raise SystemExit(guard(sys.argv[1:]))
