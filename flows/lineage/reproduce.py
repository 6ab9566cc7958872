"""`secateur reproduce MODEL`: makes a model once more from its record, in a clean work tree, and compares the bytes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import yaml

from flows import git
from flows.lineage.agree import params
from flows.lineage.chain import provenance
from flows.lineage.code import holding
from flows.lineage.find import Found, found
from flows.lineage.hashes import Hashes
from flows.lineage.state import LOCK, Entry
from flows.workspace import PIPELINE, private
from tasks.core.errors import EnvironmentFault, UserError

STDERR = 2
MEASURED = "data/times"
"""Outs that hold what a clock said, never the same twice; a model that hangs on one is made from the recorded one."""


def reproduce(root: Path, model: str) -> int:
    """Prints whether the same bytes came out, and if not which out is the first to differ; the exit status.

    Args:
        root: The workspace; nothing in it is changed.
        model: As `flows.lineage.find.found` takes it.

    Raises:
        UserError: The record is not enough to start from: code in no commit, params or raw data that changed.
        EnvironmentFault: A stage failed.
    """
    with found(root, model) as it:
        entries = it.state.upstream(it.entry.name)
        with _tree(root, _commit(it, entries)) as tree:
            measured = [entry for entry in entries if all(out.startswith(MEASURED) for out in entry.outs)]
            _give(it, entries, [out for entry in measured for out in entry.outs], tree)
            if measured:
                _declare_without({entry.name.partition("@")[0] for entry in measured}, tree)
            for line in _others(it, entries):
                print(line)
            _run(it.entry.name, tree)
            here = Hashes(tree)
            for entry in entries:
                for out in entry.outs:
                    if not out.startswith(MEASURED) and here.sha256(out) != it.state.hashes.sha256(out):
                        print(f"{entry.name}: {_first(it.state.hashes, here, out)} is not the same in {out}")
                        return 1
            print(f"{it.path}: {len(entries) - len(measured)} stages made once more, every sha256 is the same")
            print(f"  {it.out}  sha256 {here.sha256(it.out)}")
    return 0


def _commit(it: Found, entries: list[Entry]) -> str:
    """The commit that holds all the code that ran."""
    code = {path: hash_ for entry in entries for path, hash_ in provenance(it.state, _out(entry))["code"].items()}
    runs = filter(None, map(it.records.of, reversed(entries)))
    noted = [run.data.tags.get("mlflow.source.git.commit") for run in runs]
    known = [one for one in (it.state.commit, *dict.fromkeys(noted), git.head(it.state.home)) if one]
    commit = holding(it.state, code, known)
    if not commit:
        raise UserError(f"{it.name} cannot be made again: no commit holds the code as it ran; see secateur verify")
    return commit


@contextmanager
def _tree(root: Path, commit: str) -> Iterator[Path]:
    """The workspace as a commit has it, in a git work tree of its own."""
    place = private(root, "reproduce", "tree")
    _discard(root, place)
    git.worktree(root, place, commit)
    try:
        tree = place / git.prefix(root)
        (tree / LOCK).unlink(missing_ok=True)
        yield tree
    finally:
        _discard(root, place)


def _discard(root: Path, place: Path) -> None:
    """Of an earlier run that was killed, too."""
    shutil.rmtree(place, ignore_errors=True)
    git.prune(root)


def _give(it: Found, entries: list[Entry], measured: list[str], tree: Path) -> None:
    """The params, the raw data and the measured outs that the record names."""
    for entry in entries:
        for _, what in params(it, entry):
            raise UserError(f"{it.name} cannot be made again: {what}")
    (tree / PIPELINE).parent.mkdir(exist_ok=True)
    shutil.copy(it.state.root / PIPELINE, tree / PIPELINE)
    for path, md5 in {path: md5 for entry in entries for path, md5 in entry.deps.items()}.items():
        made = it.state.sources(path) and path not in measured
        if made or Path(path).is_absolute() or (tree / path).exists():
            continue
        if it.state.hashes.md5(path) != md5:
            raise UserError(f"{it.name} cannot be made again: {path} is no longer what it was (md5 {md5})")
        source, copy = it.state.root / path, tree / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, copy) if source.is_dir() else shutil.copy(source, copy)


def _declare_without(stages: set[str], tree: Path) -> None:
    """Leaves stages out of dvc.yaml: what they made is given."""
    declared = yaml.safe_load((tree / "dvc.yaml").read_text(encoding="utf-8"))
    declared["stages"] = {name: stage for name, stage in declared["stages"].items() if name not in stages}
    (tree / "dvc.yaml").write_text(yaml.safe_dump(declared), encoding="utf-8")


def _others(it: Found, entries: list[Entry]) -> Iterator[str]:
    """Packages that are not as recorded: other bytes are to be expected."""
    for name, number in provenance(it.state, _out(entries[-1])).get("packages", {}).items():
        try:
            here = version(name)
        except PackageNotFoundError:
            here = "not installed"
        if here != number:
            yield f"{name} is {here} here, it was {number}: other bytes may come out"


def _run(stage: str, tree: Path) -> None:
    """The stage and all before it, by `dvc repro`, believing no cache."""
    bin_ = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{bin_}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": os.pathsep.join(map(str, (tree, Path(__file__).parents[2]))),
    }
    command = [sys.executable, "-m", "dvc", "repro", "--force", "--no-run-cache", "--no-commit", stage]
    done = subprocess.run(command, cwd=tree, env=environment, stdout=STDERR, check=False)
    if done.returncode:
        raise EnvironmentFault(f"{stage} could not be made again: dvc repro ended with status {done.returncode}")


def _first(was: Hashes, here: Hashes, out: str) -> str:
    before, now = was.files(out), here.files(out)
    return next(name for name in sorted({*before, *now}) if before.get(name) != now.get(name))


def _out(entry: Entry) -> str:
    return next(iter(entry.outs))
