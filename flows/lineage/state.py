"""A state of the pipeline: what its dvc.lock says, and the files it says it of; the present one or one of the past."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import networkx
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.utils.serialize import parse_yaml

from flows import git
from flows.facts import is_code
from flows.lineage.hashes import Hashes
from flows.workspace import PIPELINE, private
from tasks.core.errors import UserError
from tasks.core.files import read_json

LOCK = "dvc.lock"


@dataclass(frozen=True)
class Entry:
    """A stage in dvc.lock: md5 of its deps and outs by path, and its params."""

    name: str
    deps: dict[str, str]
    outs: dict[str, str]
    params: dict[str, Any]

    @property
    def hashes(self) -> dict[str, str]:
        """Of deps and outs."""
        return {**self.deps, **self.outs}

    @property
    def code(self) -> list[str]:
        """The deps that are code."""
        return [path for path in self.deps if is_code(path)]

    @property
    def inputs(self) -> list[str]:
        """The deps that are data or models."""
        return [path for path in self.deps if not is_code(path)]


@dataclass(frozen=True)
class State:
    """One dvc.lock, and where the files lie that it is about."""

    home: Path
    """The workspace, with git, MLflow and DVC's cache."""
    root: Path
    """Where deps and outs lie: the workspace, or a directory made of DVC's cache and git for the time being."""
    entries: dict[str, Entry]
    pipeline: dict[str, Any]
    """params/pipeline.yaml."""
    commit: str | None
    """The git commit that holds this dvc.lock; None: the present state."""

    @cached_property
    def hashes(self) -> Hashes:
        """Computes hashes, each once."""
        return Hashes(self.root, Repo(str(self.home)).dvcignore if self.root == self.home else None)

    @cached_property
    def makers(self) -> dict[str, str]:
        """The stage that makes an out, by the out's path."""
        return {out: entry.name for entry in self.entries.values() for out in entry.outs}

    def sources(self, path: str) -> list[str]:
        """The outs that a dep is, lies in, or has below it."""
        return [out for out in self.makers if _related(path, out)]

    def upstream(self, stage: str) -> list[Entry]:
        """The stages that a stage's result comes from, and the stage itself, makers before users."""
        graph = networkx.DiGraph()
        waiting = [stage]
        while waiting:
            name = waiting.pop()
            if name not in graph or not graph.nodes[name]:
                graph.add_node(name, seen=True)
                makers = {self.makers[out] for dep in self.entries[name].inputs for out in self.sources(dep)}
                graph.add_edges_from((maker, name) for maker in makers)
                waiting += makers
        order = list(self.entries)
        return [self.entries[name] for name in networkx.lexicographical_topological_sort(graph, key=order.index)]


def present(root: Path) -> State:
    """The workspace as it is.

    Raises:
        UserError: Nothing ran here yet, or dvc.lock cannot be read.
    """
    if not (root / LOCK).is_file():
        raise UserError("no run yet, so there is no lineage; start one with: secateur run")
    return State(root, root, entries((root / LOCK).read_text(encoding="utf-8")), _params(root), None)


@contextmanager
def past(root: Path, commit: str) -> Iterator[State]:
    """The state that a git commit names: outs from DVC's cache, all else from git or, if it has not, the workspace."""
    locked = entries(str(git.show(root, commit, LOCK)))
    with tempfile.TemporaryDirectory(dir=private(root, "past", "x").parent) as directory:
        there = Path(directory)
        outs = {path: md5 for entry in locked.values() for path, md5 in entry.outs.items()}
        deps = {path: md5 for entry in locked.values() for path, md5 in entry.deps.items()}
        given = [path for path in deps if not any(_related(path, out) for out in outs)]
        git.export(root, commit, [*(path for path in given if not Path(path).is_absolute()), str(PIPELINE)], there)
        cache = Path(Repo(str(root)).cache.local.path)
        for path, md5 in {**{path: deps[path] for path in given}, **outs}.items():
            if not Path(path).is_absolute() and not (there / path).exists():
                link(cache, md5, there / path)
                if not (there / path).exists() and path not in outs and (root / path).exists():
                    (there / path).parent.mkdir(parents=True, exist_ok=True)
                    (there / path).symlink_to(root / path)
        yield State(root, there, locked, _params(there), commit)


def commit_with(root: Path, out_md5: str) -> str | None:
    """The latest commit whose dvc.lock has a stage with these outs (`out_md5` of its records)."""
    wanted = sorted(out_md5.split())
    for commit in git.commits(root, LOCK):
        text = git.show(root, commit, LOCK)
        if text and any(sorted(entry.outs.values()) == wanted for entry in entries(text).values()):
            return commit
    return None


def cached(root: Path, md5: str) -> dict[str, str]:
    """md5 by path of the files of a directory that DVC's cache has; empty if it has not."""
    file = Path(Repo(str(root)).cache.local.path, md5[:2], md5[2:])
    return {entry["relpath"]: entry["md5"] for entry in read_json(file)} if file.is_file() else {}


def _related(path: str, out: str) -> bool:
    """Whether a dep is an out, lies in it, or has it below: a past `models/rounds` is not the present one."""
    return f"{path}/".startswith(f"{out}/") or f"{out}/".startswith(f"{path}/")


def link(cache: Path, md5: str, path: Path) -> None:
    """What the cache has under a hash, as links; what it has not is not there."""
    found = cache / md5[:2] / md5[2:]
    if not md5.endswith(".dir"):
        if found.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(found)
    elif found.is_file():
        path.mkdir(parents=True, exist_ok=True)
        for entry in read_json(found):
            link(cache, entry["md5"], path / entry["relpath"])


def entries(text: str) -> dict[str, Entry]:
    """The stages in the text of a dvc.lock.

    Raises:
        UserError: It cannot be read.
    """
    try:
        stages = parse_yaml(text, LOCK)["stages"]
        return {name: _entry(name, found) for name, found in stages.items()}
    except (DvcException, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{LOCK} cannot be read ({error}); take it from git, or run again with: secateur run") from None


def _entry(name: str, found: dict[str, Any]) -> Entry:
    deps, outs = ({one["path"]: one["md5"] for one in found.get(kind, ())} for kind in ("deps", "outs"))
    params = {key: value for values in found.get("params", {}).values() for key, value in values.items()}
    return Entry(name, deps, outs, params)


def _params(root: Path) -> dict[str, Any]:
    path = os.fspath(root / PIPELINE)
    return dict(parse_yaml(Path(path).read_text(encoding="utf-8"), path)) if Path(path).is_file() else {}
