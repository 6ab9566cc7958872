"""A directory in which the stages of one recipe run as in a workspace, without DVC: same paths, params and record."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dvc.fs import localfs
from dvc.parsing import DataResolver

from flows.dag import look_up
from flows.workspace import PIPELINE, write
from tasks.core.files import read_json
from tasks.recipe.job import Job
from tasks.recipe.load import dump
from tasks.recipe.schema import Recipe
from tasks.recipe.yaml12 import loads


def view(workspace: Path, directory: Path, recipe: Recipe) -> Path:
    """A workspace in `directory` for `recipe`, with the code and the local sources of another."""
    write(directory / PIPELINE, dump(recipe))
    sources = (recipe.data.source, recipe.model.source, recipe.distill.source or "")
    local = [source for source in sources if source and "://" not in source and not Path(source).is_absolute()]
    for path in ("tasks", *local):
        link = directory / path
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to((workspace / path).resolve())
    return directory


def jobs(workspace: Path, directory: Path, recipe: Recipe) -> dict[str, Job]:
    """Every stage of dvc.yaml by name, in the view of a recipe."""
    declared, _ = loads((workspace / "dvc.yaml").read_text(encoding="utf-8"))
    values, _ = loads((directory / PIPELINE).read_text(encoding="utf-8"))
    # Of a repository, DVC's resolver of ${…} and foreach wants only these two.
    resolver = DataResolver(SimpleNamespace(fs=localfs, config={}), str(directory), declared)
    found = {}
    for name, stage in resolver.resolve()["stages"].items():
        group, _, key = name.partition("@")
        foreach = declared["stages"][group].get("foreach")
        found[name] = Job(
            stage=name,
            recipe=recipe,
            root=directory,
            deps=tuple(stage["deps"]),
            outs=tuple(stage["outs"]),
            params=_params(stage["params"], values),
            item=look_up(foreach, values)[key] if foreach else {},
        )
    return found


def is_done(job: Job, root: Path) -> bool:
    """Whether the outs below `root` are what `job` would make: the same work on the same inputs by the same code."""
    facts: dict[str, Any] | None = None
    for out in job.outs:
        file = root / out / "provenance.json"
        if not file.is_file():
            return False
        facts = facts or {"params": dict(job.params), "inputs": job.inputs(), "code": job.code(), "stage": job.stage}
        said = read_json(file)
        if any(said[name] != value for name, value in facts.items()):
            return False
    return True


def _params(declared: list[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the keys that a stage lists for params/pipeline.yaml."""
    found = {}
    for entry in declared:
        for key in entry[PIPELINE.as_posix()]:
            at: Any = values
            for part in key.split("."):
                at = at[part]
            found[key] = at
    return found
