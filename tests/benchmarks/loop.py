"""What benchmarks of whole runs share: a workspace, the command in it, a model read where Secateur is not."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import raw

SHUT = """
import sys
sys.path = [path for path in sys.path if "site-packages" in path or "lib" in path]
sys.meta_path = [one for one in sys.meta_path if "__editable__" not in getattr(one, "__module__", type(one).__module__)]
try:
    import tasks
except ImportError:
    pass
else:
    sys.exit("Secateur is importable here")
"""


def workspace(name: str) -> Path:
    """A clone of what is committed, in .secateur/benchmarks."""
    root = Path(".secateur/benchmarks", name).resolve()
    if root.is_dir():
        subprocess.run(["git", "-C", root, "checkout", "--quiet", "params"], check=True)  # what a run resolves
        subprocess.run(["git", "-C", root, "pull", "--quiet", "--ff-only"], check=True)
    else:
        subprocess.run(["git", "clone", "--quiet", ".", root], check=True)
    return root


def secateur(root: Path, recipe: str, settings: list[str]) -> None:
    """`secateur run`, by the code of the workspace."""
    command = [sys.executable, "-m", "flows.cli", "run", recipe]
    command += [word for setting in settings for word in ("--set", setting)]
    subprocess.run(command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, check=True)


def elsewhere(code: str, *arguments: object) -> float:
    """What `code` prints in a process that cannot import Secateur and asks no hub."""
    command = [sys.executable, "-P", "-c", SHUT + code, *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd="/", env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def outcome(root: Path) -> dict[str, Any]:
    """The verdicts of the rounds, the last good one, and the figures of every model on test."""
    verdicts = [read(path) for path in sorted(root.glob("data/rounds/*/verdict.json"))]
    quality = read(root / "data/evaluate/test/quality.json")
    return {"rounds": verdicts, "kept": quality["pruned"], "models": quality["models"]}


def read(path: Path) -> Any:
    """What a JSON file holds."""
    return json.loads(path.read_text())


def lines(results: Path) -> dict[str, dict[str, Any]]:
    """Raw figures, by run."""
    return {line["run"]: line for line in raw.lines(results)}
