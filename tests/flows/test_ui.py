"""The pages come up on the workspace's own stores, and nothing stays behind however the command ends."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
UI = "from flows.ui import ui; raise SystemExit(ui())"
GUARDED = """
import subprocess, sys, time
inner = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(300)', sys.argv[1]])"
command = [sys.executable, "-m", "flows.guardian", sys.executable, "-c", inner, sys.argv[1]]
child = subprocess.Popen(command, stdin=subprocess.PIPE)
time.sleep(300)
"""


def environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_"))}
    return {**kept, "PYTHONPATH": str(ROOT)}


def family(mark: str) -> list[psutil.Process]:
    """Processes that have `mark` among their arguments."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        alive = process.info["status"] != psutil.STATUS_ZOMBIE
        if alive and any(mark in argument for argument in process.info["cmdline"] or []):
            found.append(process)
    return found


def until(what: object, seconds: float = 120) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():  # type: ignore[operator]
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("whom", ["parent", "guardian"])
def test_a_guarded_command_and_its_children_end_with_the_parent(how: signal.Signals, whom: str, tmp_path: Path) -> None:
    mark = f"{tmp_path}/mark"
    parent = subprocess.Popen([sys.executable, "-c", GUARDED, mark], env=environment())
    try:
        assert until(lambda: len(family(mark)) == 4)
        guardian = next(one for one in family(mark) if "flows.guardian" in one.cmdline())
        if whom == "guardian" and how is signal.SIGKILL:
            inner = next(one for one in family(mark) if one.ppid() == guardian.pid)
            guardian.kill()
            assert until(lambda: not inner.is_running() or inner.status() == psutil.STATUS_ZOMBIE)
        else:
            (parent if whom == "parent" else guardian).send_signal(how)
            left = 0 if whom == "parent" else 1
            assert until(lambda: len(family(mark)) == left)
    finally:
        for process in family(mark):
            process.kill()
        parent.wait()


def get(url: str) -> str:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(url, timeout=10) as answer:
        return str(answer.read().decode())


def test_both_pages_come_up_and_end_with_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    command = subprocess.Popen(
        [sys.executable, "-c", UI], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        lines = [command.stdout.readline() for _ in range(3)] if command.stdout else []
        urls = dict(re.match(r"(\w+) +(\S+)", line).groups() for line in lines[:2])  # type: ignore[union-attr,misc]
        assert all(url.startswith("http://127.0.0.1:") for url in urls.values())
        assert get(urls["Prefect"] + "/api/health") == "true"
        assert urls["Prefect"] in get(urls["Prefect"] + "/ui-settings")
        assert get(urls["MLflow"] + "/health") == "OK"
        assert "<html" in get(urls["Prefect"] + "/")
        assert "<html" in get(urls["MLflow"] + "/")
        assert (tmp_path / ".secateur/mlflow.db").is_file()
        assert (tmp_path / ".secateur/prefect/prefect.db").is_file()
        below = psutil.Process(command.pid).children(recursive=True)
        assert len(below) >= 4
        command.send_signal(signal.SIGINT)
        assert command.wait(120) == 0
        _, left = psutil.wait_procs(below, timeout=10)
        assert left == []
    finally:
        command.kill()
        command.wait()


def test_outside_a_workspace_it_says_so(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", UI], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert "is in no workspace" in ran.stderr
