"""dvc.yaml as DVC reads it: the stages in the order they run, and whether they must."""

import hashlib
import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import networkx
import yaml
from dvc.dependency.param import ParamsDependency
from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo, lock_repo
from dvc.rwlock import rwlock
from scmrepo.exceptions import SCMError

from flows.workspace import PIPELINE
from tasks.core.errors import EnvironmentFault, UserError
from tasks.recipe.job import Job
from tasks.recipe.load import read
from tasks.recipe.schema import Recipe
from tasks.recipe.yaml12 import loads


@dataclass(frozen=True)
class Stage:
    """One stage as dvc.yaml declares it; an item of a `foreach` is a stage of its own."""

    name: str
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    params: dict[str, Any]
    item: dict[str, Any] = field(default_factory=dict)
    pool: str = "cpu"
    desc: str = ""

    @property
    def group(self) -> str:
        """What stands before the @."""
        return self.name.partition("@")[0]


class Dag:
    """The stages of a workspace, and their state. DVC alone decides what is up to date."""

    def __init__(self, root: Path) -> None:
        """Reads dvc.yaml. DVC looks for stages and outs from the current directory, so that must be `root`.

        Raises:
            UserError: DVC does not accept it, or the params it names.
        """
        self.root = root
        logging.getLogger("dvc").setLevel(logging.CRITICAL)  # above ERROR its progress bars are off; it raises anyway
        self.repo = Repo(str(root), _wait_for_lock=True)
        with _plain():
            self.stages = tuple(self._read())
        self._locked: dict[str, dict[str, str]] | None = None
        self._changed: set[str] | None = None
        self._moved = False
        self.by_name = {stage.name: stage for stage in self.stages}

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe in params/pipeline.yaml."""
        return read(self.root / PIPELINE)

    def items(self, group: str) -> tuple[str, ...]:
        """The keys of a `foreach` stage, in order."""
        return tuple(stage.name.partition("@")[2] for stage in self.stages if stage.group == group)

    def job(self, name: str) -> Job:
        """What the function of a stage is called with.

        Raises:
            UserError: There is no such stage.
        """
        stage = self.stage(name)
        return Job(
            stage=stage.name,
            recipe=self.recipe,
            root=self.root,
            deps=stage.deps,
            outs=stage.outs,
            params=stage.params,
            item=stage.item,
        )

    def stage(self, name: str) -> Stage:
        """The stage of that name.

        Raises:
            UserError: There is no such stage.
        """
        if name not in self.by_name:
            raise UserError(f"there is no stage {name}; dvc.yaml has {', '.join(self.by_name)}")
        return self.by_name[name]

    def changed(self, name: str | None = None) -> bool:
        """Whether inputs, command or outs of a stage (of any, without a name) differ from dvc.lock."""
        with _plain():
            if self._changed is None and not self._moved:
                self._changed = set(self.repo.status())  # all at once takes little longer than one
            if self._changed is not None:
                return name in self._changed if name else bool(self._changed)
            return bool(self.repo.status(targets=[name] if name else None))

    def restore(self, name: str) -> bool:
        """Brings back what DVC's cache holds of an earlier run on the same inputs, as `dvc repro` would."""
        with _plain(), lock_repo(self.repo):
            stage = self.repo.stage.get_target(name)
            try:
                # A changed out would be asked about before it is overwritten.
                stage.remove_outs(ignore_remove=False, force=False)
                self.repo.stage_cache.restore(stage)
            except (DvcException, FileNotFoundError):  # no such run, or a dep is not there (yet)
                return False
        self.commit(name)
        return True

    def commit(self, name: str) -> None:
        """Makes what a stage left in the workspace its result: in the cache and in dvc.lock."""
        self._locked = self._changed = None
        self._moved = True
        with _plain():
            self.repo.commit(name, force=True)

    @contextmanager
    def reserved(self, name: str) -> Iterator[None]:
        """Keeps every other DVC process from the deps and outs of a stage while it runs.

        Raises:
            EnvironmentFault: Another one has them.
        """
        with _plain():
            stage = self.repo.stage.get_target(name)
            deps, outs = [dep.fs_path for dep in stage.deps], [out.fs_path for out in stage.outs]
            hard = self.repo.config["core"].get("hardlink_lock", False)
            with rwlock(self.repo.tmp_dir, self.repo.fs, " ".join(sys.argv), deps, outs, hard):
                yield

    def hashes(self, name: str) -> dict[str, str]:
        """Hashes of a stage's deps and outs in dvc.lock, by path."""
        if self._locked is None:
            # DVC's own reader takes 0.1 s, this one a few milliseconds.
            text = (self.root / "dvc.lock").read_text(encoding="utf-8")
            stages = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"]  # noqa: S506
            self._locked = {
                stage: {
                    entry["path"]: str(entry["md5"])
                    for entry in (*found.get("deps", ()), *found.get("outs", ()))
                    if "md5" in entry
                }
                for stage, found in stages.items()
            }
        return self._locked[name]

    @cached_property
    def _given(self) -> frozenset[str]:
        """The deps that no stage makes."""
        made = [Path(out) for stage in self.stages for out in stage.outs]

        def is_made(path: Path) -> bool:
            return any(path == out or path in out.parents or out in path.parents for out in made)

        return frozenset(dep for stage in self.stages for dep in stage.deps if not is_made(Path(dep)))

    def roots(self, name: str | None = None) -> dict[str, str]:
        """Hashes of what a stage (or any) reads and none makes: code, and data or models that the user gave."""
        found: dict[str, str] = {}
        with _plain(), lock_repo(self.repo):
            for stage in [self.repo.stage.get_target(name)] if name else self.repo.index.stages:
                for dep in stage.deps if stage.cmd else ():
                    if dep.def_path in self._given and dep.def_path not in found:
                        found[dep.def_path] = str(dep.get_hash().value) if dep.exists else "missing"
        return found

    def state(self) -> str:
        """Names what the whole pipeline starts from: roots, params and stages."""
        facts = [self.roots(), [(stage.name, stage.params, stage.outs) for stage in self.stages]]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def commit_id(self) -> str | None:
        """The git commit the workspace is at; None before the first one."""
        try:
            return str(self.repo.scm.get_rev())
        except (SCMError, DvcException):
            return None

    def _read(self) -> Iterator[Stage]:
        """The stages in the order they run.

        Of those that could run next, what the rounds need comes first, then a round's, then the one that stands first
        in dvc.yaml: so a round is complete before the next begins, and all before what only needs the dense model.
        """
        index = self.repo.index
        values, _ = loads((self.root / PIPELINE).read_text(encoding="utf-8"))
        rounds = list(values["dag"]["rounds"])
        places = {stage: place for place, stage in enumerate(index.stages)}

        keys = {stage: (getattr(stage, "name", None) or "").partition("@")[2] for stage in index.stages}
        order = index.graph.reverse(copy=False)
        needed = set().union(*(networkx.ancestors(order, stage) for stage in order if keys[stage] in rounds))

        def turn(stage: Any) -> tuple[int, int]:
            after = -1 if stage in needed else len(rounds)
            return rounds.index(keys[stage]) if keys[stage] in rounds else after, places[stage]

        for stage in networkx.lexicographical_topological_sort(order, key=turn):
            if stage.cmd:  # data that the user added by hand has none
                yield _stage(stage, values)


def _stage(stage: Any, values: dict[str, Any]) -> Stage:
    group, _, key = stage.name.partition("@")
    foreach = stage.dvcfile.contents["stages"][group].get("foreach")
    params: dict[str, Any] = {}
    for dep in stage.params:
        params.update(dep.read_params())
    return Stage(
        name=stage.name,
        deps=tuple(dep.def_path for dep in stage.deps if not isinstance(dep, ParamsDependency)),
        outs=tuple(out.def_path for out in stage.outs),
        params=params,
        item=look_up(foreach, values)[key] if foreach else {},
        pool=(stage.meta or {}).get("pool", "cpu"),
        desc=stage.desc or "",
    )


def look_up(foreach: Any, values: dict[str, Any]) -> dict[str, Any]:
    """The mapping that a `foreach: ${a.b}` stands for."""
    found: Any = values
    for key in re.sub(r"^\$\{\s*|\s*\}$", "", foreach).split("."):
        found = found[key]
    return dict(found)


@contextmanager
def _plain() -> Iterator[None]:
    """Says what DVC has to say in the two kinds of this project."""
    try:
        yield
    except LockError as error:
        raise EnvironmentFault(f"another DVC command is at work in this workspace: {error}") from error
    except DvcException as error:
        raise EnvironmentFault(f"dvc: {error}") from error
