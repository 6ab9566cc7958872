import hashlib
import os
import stat
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from tasks.core.errors import EnvironmentFault, UserError
from tasks.sources import fetch, pypi, store


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that pip takes wheels from, and nowhere else."""
    directory = tmp_path / "wheels"
    directory.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    return directory


def wheel(index: Path, members: dict[str, bytes], *, symlink: str | None = None) -> str:
    """Builds demo 1.0 and returns its sha256."""
    meta = "demo-1.0.dist-info"
    about = {
        f"{meta}/METADATA": b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n",
        f"{meta}/WHEEL": b"Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{meta}/RECORD": b"",
    }
    path = index / "demo-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**members, **about}.items():
            archive.writestr(name, content)
        if symlink:
            info = zipfile.ZipInfo(symlink)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, "/etc/passwd")
    return hashlib.sha256(path.read_bytes()).hexdigest()


MEMBERS = {"demo/__init__.py": b"raise SystemExit('run')", "demo/data/a.csv": b"a", "demo/data/sub/b.csv": b"b"}


def get(tmp_path: Path, path: str, sha256: str) -> Path:
    return fetch(f"pypi://demo==1.0/{path}?sha256={sha256}", tmp_path / "cache", tmp_path, "data")


def test_a_file_of_a_wheel_is_fetched_once_and_alone(index: Path, tmp_path: Path) -> None:
    sha256 = wheel(index, MEMBERS)
    found = get(tmp_path, "demo/data/a.csv", sha256)
    assert found.name == "a.csv"
    assert found.read_bytes() == b"a"
    (index / "demo-1.0-py3-none-any.whl").unlink()
    assert get(tmp_path, "demo/data/a.csv", sha256.upper()) == found
    assert sorted(p.name for p in (tmp_path / "cache").rglob("*.csv")) == ["a.csv"]
    assert not list((tmp_path / "cache").rglob("*.py"))


def test_a_directory_of_a_wheel_is_fetched_whole(index: Path, tmp_path: Path) -> None:
    found = get(tmp_path, "demo/data/", wheel(index, MEMBERS))
    assert found.name == "data"
    assert {p.relative_to(found).as_posix() for p in found.rglob("*.*")} == {"a.csv", "sub/b.csv"}


def test_a_wheel_of_another_sha256_is_refused_with_both(index: Path, tmp_path: Path) -> None:
    sha256 = wheel(index, MEMBERS)
    with pytest.raises(UserError) as error:
        get(tmp_path, "demo/data/a.csv", "0" * 64)
    assert sha256 in str(error.value)
    assert "0" * 64 in str(error.value)
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.suffix != ".lock"]


@pytest.mark.parametrize(
    "name", ["demo/data/../../evil.csv", "/evil.csv", "../evil.csv", "demo\\..\\evil.csv", "C:/evil"]
)
def test_a_wheel_with_a_member_outside_of_itself_is_refused(index: Path, tmp_path: Path, name: str) -> None:
    sha256 = wheel(index, {**MEMBERS, name: b"evil"})
    with pytest.raises(UserError, match="leads out of the archive"):
        get(tmp_path, "demo/data", sha256)
    assert not list(tmp_path.rglob("evil*"))


def test_a_wheel_with_a_link_is_refused(index: Path, tmp_path: Path) -> None:
    sha256 = wheel(index, MEMBERS, symlink="demo/data/link.csv")
    with pytest.raises(UserError, match=r"link\.csv"):
        get(tmp_path, "demo/data", sha256)


@pytest.mark.parametrize(
    ("path", "sha256", "says"),
    [
        ("demo/data/../../x", "0" * 64, "leads out"),
        ("/etc/passwd", "0" * 64, "leads out"),
        ("demo/data", "", "sha256"),
        ("demo/data", "abc", "64 hex digits"),
    ],
)
def test_what_is_wrong_in_the_uri_is_said_before_pip_is_asked(
    tmp_path: Path, path: str, sha256: str, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        get(tmp_path, path, sha256)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "uri",
    [
        "pypi://demo/data",
        "pypi://--index-url==1.0/x",
        "pypi://demo>=1/x",
        "pypi://demo==1.0",
        "pypi://demo==1.0/x?sha256=1&x=2",
    ],
)
def test_a_wrong_form_shows_the_allowed_ones(tmp_path: Path, uri: str) -> None:
    with pytest.raises(UserError, match=r"pypi://NAME==VERSION/PATH\?sha256=HEX.*hf://NAME@REVISION"):
        fetch(uri, tmp_path / "cache", tmp_path, "data")


def test_without_sha256_the_message_says_what_to_add(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"needs \?sha256="):
        fetch("pypi://demo==1.0/x", tmp_path / "cache", tmp_path, "data")


def test_a_path_that_the_wheel_lacks_is_a_mistake(index: Path, tmp_path: Path) -> None:
    sha256 = wheel(index, MEMBERS)
    with pytest.raises(UserError, match=r"holds no demo/dat; at its top are demo"):
        get(tmp_path, "demo/dat", sha256)


def test_what_pip_says_last_is_quoted(index: Path, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"pip could not fetch demo==1\.0: ERROR: No matching distribution"):
        get(tmp_path, "demo/data", "0" * 64)


def test_a_full_disk_is_the_environments_fault(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(pypi.shutil, "copyfileobj", full)
    with pytest.raises(EnvironmentFault, match="no space left"):
        get(tmp_path, "demo/data", wheel(index, MEMBERS))


def test_a_cache_that_cannot_be_made_is_the_environments_fault(index: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(EnvironmentFault, match="SECATEUR_CACHE"):
        get(tmp_path, "demo/data", wheel(index, MEMBERS))


def test_a_damaged_entry_is_fetched_again(index: Path, tmp_path: Path) -> None:
    sha256 = wheel(index, MEMBERS)
    found = get(tmp_path, "demo/data/a.csv", sha256)
    found.write_bytes(b"changed")
    assert get(tmp_path, "demo/data/a.csv", sha256).read_bytes() == b"a"


def test_two_at_once_fill_an_entry_once(tmp_path: Path) -> None:
    calls = []
    started = threading.Barrier(2)

    def fill(out: Path) -> None:
        calls.append(out)
        (out / "a").write_text("a")

    def work() -> None:
        started.wait()
        assert (store.keep(tmp_path / "entry", fill) / "a").read_text() == "a"

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_a_kill_while_an_entry_is_filled_leaves_none(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom tasks.sources import store\n"
        "def fill(out):\n    (out / 'a').write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "store.keep(Path(sys.argv[1]), fill)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "entry")], check=False)
    assert done.returncode == -9
    assert not (tmp_path / "entry").exists()
    files = store.keep(tmp_path / "entry", lambda out: (out / "b").write_text("whole") and None)
    assert [p.name for p in files.iterdir()] == ["b"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".entry.lock", "entry"]


def test_a_wheel_that_is_no_archive_inside_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(request: object, requirement: str, directory: Path) -> Path:
        path = directory / "demo-1.0-py3-none-any.whl"
        path.write_bytes(b"no zip")
        return path

    monkeypatch.setattr(pypi, "_download", download)
    with pytest.raises(UserError, match="cannot be unpacked"):
        get(tmp_path, "demo", hashlib.sha256(b"no zip").hexdigest())


def test_pip_is_quiet(index: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    get(tmp_path, "demo/data", wheel(index, MEMBERS))
    assert capfd.readouterr() == ("", "")
