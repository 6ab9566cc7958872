"""Workspaces whose stages take no time, and one Prefect server for all of them."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
DRIVE = Path(__file__).with_name("drive.py")


@pytest.fixture(scope="session", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keeps what the tests do out of the user's home and servers."""
    home = tmp_path_factory.mktemp("home")
    patch = pytest.MonkeyPatch()
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "PREFECT_API_URL", "PREFECT_API_KEY"):
        patch.delenv(name, raising=False)
    patch.setenv("PREFECT_HOME", str(home / "prefect"))
    patch.setenv("DVC_SITE_CACHE_DIR", str(home / "dvc"))
    patch.setenv("DVC_GLOBAL_CONFIG_DIR", str(home / "dvc-config"))
    patch.setenv("DVC_SYSTEM_CONFIG_DIR", str(home / "dvc-config"))
    yield home
    patch.undo()


@pytest.fixture(scope="session")
def prefect(environment: Path) -> Iterator[str]:
    """The address of a Prefect server."""
    from flows import server
    from flows.quiet import quiet

    quiet(environment)
    with server.api(environment, lambda _: None) as url:
        server.OWN.discard(url)  # to the flows it is the user's
        yield url


def make_workspace(root: Path) -> Path:
    """The repository's dvc.yaml over a few small files; its commands run the quick stages."""
    root.mkdir(parents=True, exist_ok=True)
    command = f"{sys.executable} {DRIVE} stage"
    (root / "dvc.yaml").write_text((REPOSITORY / "dvc.yaml").read_text().replace("secateur stage", command))
    shutil.copy(REPOSITORY / ".dvcignore", root)
    (root / ".gitignore").write_text((REPOSITORY / ".gitignore").read_text() + "/data/\n/models/\n")
    (root / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(REPOSITORY / ".dvc" / name, root / ".dvc")
    for entry in yaml.safe_load((root / "dvc.yaml").read_text())["stages"].values():
        for dep in entry.get("do", entry)["deps"]:
            if dep.startswith("tasks/"):
                (root / dep).mkdir(parents=True, exist_ok=True)
                (root / dep / "code.py").write_text(f"# {dep}\n")
    (root / "orders").mkdir()
    commit_all(root)
    return root


def commit_all(root: Path) -> None:
    """A repository with a commit of all that git does not ignore."""
    who = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-q", "-m", "All")):
        subprocess.run(["git", *words], cwd=root, check=True)


def pipeline(root: Path, *settings: str, force: tuple[str, ...] = ()) -> bool:
    """A run in this process: whether anything had to run."""
    from flows.progress import Progress
    from flows.request import Request
    from flows.run import run

    return run(Request(root, None, settings, force, "tests.flows.fake"), Progress())


def drive(root: Path, *words: str) -> "subprocess.Popen[str]":
    """A run in a process of its own, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, str(DRIVE), *words],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def calls(root: Path) -> list[str]:
    """The stages that did their work, in order; the list starts anew."""
    log = root / "calls" / "log"
    lines = log.read_text().split() if log.is_file() else []
    log.unlink(missing_ok=True)
    return lines


def hashes(root: Path) -> dict[str, str]:
    """The md5 of every out in dvc.lock."""
    lock: dict[str, Any] = yaml.safe_load((root / "dvc.lock").read_text())
    return {out["path"]: out["md5"] for entry in lock["stages"].values() for out in entry["outs"]}


def is_clean(root: Path) -> bool:
    """Whether `dvc status` has nothing to say."""
    from dvc.repo import Repo

    return not Repo(str(root)).status()


@pytest.fixture(scope="session")
def finished(prefect: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace after one run. Not to be changed: see `workspace`."""
    root = make_workspace(tmp_path_factory.mktemp("finished") / "workspace")
    assert pipeline(root)
    return root


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of the real stages with a tiny model; not to be changed."""
    from tests.flows.tiny import make_tiny

    return make_tiny(tmp_path_factory.mktemp("tiny") / "clone")


@pytest.fixture(scope="session")
def unbroken(tiny: Path, prefect: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny pipeline, run to its end; not to be changed."""
    from tests.flows.tiny import finish, secateur

    root = tmp_path_factory.mktemp("unbroken") / "clone"
    shutil.copytree(tiny, root)
    finish(secateur(root, prefect, "run", "recipe.yaml"))
    return root


@pytest.fixture
def workspace(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished workspace, with its records in MLflow."""
    root = tmp_path / "workspace"
    shutil.copytree(finished, root)
    calls(root)
    return root


@pytest.fixture
def fresh(prefect: str, tmp_path: Path) -> Path:
    """A workspace in which nothing ran yet."""
    return make_workspace(tmp_path / "workspace")


@pytest.fixture
def order(request: pytest.FixtureRequest) -> Callable[[Path, str, str], None]:
    """Tells a stage of a workspace to misbehave."""

    def give(root: Path, stage: str, word: str) -> None:
        (root / "orders").mkdir(exist_ok=True)
        (root / "orders" / stage).write_text(word)

    return give
