"""Whether the records of one stage agree: files, dvc.lock, provenance, params, MLflow, git."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows import git, measurements
from flows.facts import facts, key
from flows.lineage.chain import provenance, raws
from flows.lineage.code import elsewhere
from flows.lineage.find import Found
from flows.lineage.hashes import Hashes
from flows.lineage.records import outs
from flows.lineage.state import Entry, cached
from flows.promotion import record as promotions
from tasks.core.errors import EnvironmentFault
from tasks.core.files import tree_hash
from tasks.sources import cache_dir, fetch
from tasks.sources.uri import Kind

Finding = tuple[str, str, str]
"""Where, which record, what is wrong with it."""
LONGEST = 6000
"""Characters of a param that MLflow keeps."""


def sources(it: Found, entries: list[Entry]) -> Iterator[Finding]:
    """What the pipeline was given: files against dvc.lock, and what was fetched against its noted sha256."""
    given = {path: md5 for entry in entries for path, md5 in entry.deps.items() if not it.state.sources(path)}
    for path, md5 in given.items():
        if path not in {name for entry in entries for name in entry.code}:
            here = it.state.hashes.md5(path)
            if here != md5:
                yield (
                    f"raw {Path(path).name}",
                    "files",
                    f"md5 is {here or 'that of nothing: it is gone'}, noted was {md5}",
                )
    for raw in raws(it.state, entries):
        if "://" in raw.source and raw.sha256:
            where = f"raw {raw.name}"
            kind: Kind = "data" if raw.name == "data" else "model"
            try:
                here = tree_hash(fetch(raw.source, cache_dir(), it.state.home, kind))
            except EnvironmentFault as error:
                yield where, "files", f"cannot be fetched to be verified: {error}"
            else:
                if here != raw.sha256:
                    yield where, "files", f"sha256 of {raw.source} is {here}, noted was {raw.sha256}"


def stage(it: Found, entry: Entry) -> Iterator[Finding]:
    """All records of one stage's result."""
    run = it.records.of(entry, {out: it.state.hashes.md5(out) for out in entry.outs})
    for record, what in (*_files(it, entry, run), *_provenance(it, entry), *params(it, entry)):
        yield entry.name, record, what
    for what in _mlflow(it, entry, run):
        yield entry.name, "MLflow", what
    commit = run.data.tags.get("mlflow.source.git.commit") if run else None
    for what in elsewhere(it.state, provenance(it.state, next(iter(entry.outs))).get("code", {}), commit):
        yield entry.name, "git", what


def registered(it: Found) -> Iterator[Finding]:
    """The tags of a registered version, and its files."""
    if it.version is None:
        return
    where, tags = f"{it.version.name} version {it.version.version}", it.version.tags
    wanted = facts(it.entry.name, it.entry.outs, it.entry.hashes)
    if "sha256" in tags:  # of a version that was submitted to the gate, which goes by it
        wanted["sha256"] = str(it.state.hashes.sha256(it.path))
    for name, value in wanted.items():
        if _sorted(tags.get(name)) != _sorted(value):
            yield where, "MLflow", f"tag {name} is {tags.get(name)}, of {it.path} it is {value}"
    try:
        with tempfile.TemporaryDirectory() as directory:
            other = _other(it, Path(it.records.download(it.version, directory)))
    except EnvironmentFault as error:
        yield where, "MLflow", str(error)
    else:
        if other:
            yield where, "MLflow", f"the registered {other} is not that of {it.path}"


def decided(it: Found) -> Iterator[Finding]:
    """The decisions on the model: their files against git and MLflow."""
    home, files = it.state.home, it.state.hashes.files(it.path)
    for decision in promotions.decisions(home):
        if decision["model"].get("files") != files:
            continue
        file = promotions.path(home, decision["id"])
        where, here = f"{decision['decision']} {decision['id']}", file.read_text(encoding="utf-8")
        if git.show(home, "HEAD", file.relative_to(home).as_posix()) != here:
            yield where, "git", f"{file.relative_to(home)} is not what was committed"
        if it.records.decision(decision["id"]) != decision:
            yield where, "MLflow", f"{file.relative_to(home)} is not what was recorded"


def copied(it: Found) -> Iterator[Finding]:
    """The files of a copy that was given in place of the model itself."""
    name = _other(it, it.copy) if it.copy else None
    if name:
        yield str(it.copy), "files", f"{name} is not that of {it.path}"


def _other(it: Found, copy: Path) -> str | None:
    """The first file of a copy that is not as in the model."""
    here, there = Hashes(copy).files("."), it.state.hashes.files(it.path)
    return next((name for name in sorted({*here, *there}) if here.get(name) != there.get(name)), None)


def _files(it: Found, entry: Entry, run: Any) -> Iterator[tuple[str, str]]:
    """Bytes against dvc.lock; MLflow, which has the same hashes, says who is wrong."""
    state = it.state
    noted = outs(run) if run else {}
    for out, md5 in entry.outs.items():
        here = state.hashes.md5(out)
        if here is None:
            yield "files", f"{out} is not there; get it from DVC: dvc checkout {out}"
        elif here != md5 and here == noted.get(out):
            yield "dvc.lock", f"{out} is {md5}, its files and MLflow have {here}"
        elif here != md5:
            file = state.hashes.changed(out, cached(state.home, md5)) or out
            yield "files", f"{file} is not what was made: {out} has md5 {here}, dvc.lock has {md5}"
    for path in entry.inputs:
        if state.sources(path):
            makers = [out for out in state.sources(path) if out == path]
            made = state.entries[state.makers[path]].outs[path] if makers else state.hashes.md5(path)
            if made != entry.deps[path]:
                yield "dvc.lock", f"read {path} as {entry.deps[path]}, but it was made as {made}"


def _provenance(it: Found, entry: Entry) -> Iterator[tuple[str, str]]:
    """provenance.json of each out against dvc.lock and against the bytes of its inputs."""
    for out in entry.outs:
        noted = provenance(it.state, out)
        if not noted:
            yield "provenance", f"{out}/provenance.json is not there or cannot be read"
            continue
        for name, value in {"stage": entry.name, "out": out}.items():
            if noted.get(name) != value:
                yield "provenance", f"{name} of {out} is {noted.get(name)}, it is {value}"
        yield from _noted_params(it, entry, out, noted)
        inputs = {Path(path).name if Path(path).is_absolute() else path: path for path in entry.inputs}
        if inputs.keys() != noted.get("inputs", {}).keys() or set(entry.code) != noted.get("code", {}).keys():
            yield "provenance", f"{out} names other inputs or code than dvc.lock"
            continue
        for name, path in inputs.items():
            here = it.state.hashes.sha256(path)
            if noted["inputs"][name] != here:
                yield "provenance", f"{out} was made from {name} with sha256 {noted['inputs'][name]}, now it is {here}"


def _noted_params(it: Found, entry: Entry, out: str, noted: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name in sorted({*noted.get("params", {}), *entry.params}):
        here, locked = noted.get("params", {}).get(name), entry.params.get(name)
        if here != locked:
            wrong = "dvc.lock" if here == _value(it, name) else "provenance"  # two of three are right
            yield wrong, f"{name} of {out} is {here} in provenance, {locked} in dvc.lock"
    if noted.get("seed") != entry.params.get("seed", noted.get("seed")):
        yield "provenance", f"seed of {out} is {noted.get('seed')}, dvc.lock has {entry.params['seed']}"


def params(it: Found, entry: Entry) -> Iterator[tuple[str, str]]:
    """params/pipeline.yaml against what the stage ran with, by dvc.lock."""
    for name, value in entry.params.items():
        here = _value(it, name)
        if here != value and provenance(it.state, next(iter(entry.outs))).get("params", {}).get(name) != here:
            yield "params", f"params/pipeline.yaml has {name}: {here}; it was made with {value}"


def _value(it: Found, name: str) -> Any:
    """A param in params/pipeline.yaml."""
    here: Any = it.state.pipeline
    for part in name.split("."):
        here = here.get(part) if isinstance(here, dict) else None
    return here


def _mlflow(it: Found, entry: Entry, run: Any) -> Iterator[str]:
    if run is None:
        yield "no record of this result; secateur run writes it"
        return
    tags = {
        "key": key(entry.name, entry.params, entry.hashes),
        **{f"out.{out}": md5 for out, md5 in entry.outs.items()},
        **facts(entry.name, entry.outs, entry.hashes),
    }
    for name, value in tags.items():
        if name != "key" and _sorted(run.data.tags.get(name)) != _sorted(value):
            yield f"tag {name} of run {run.info.run_id} is {run.data.tags.get(name)}, by dvc.lock it is {value}"
            return
    if run.data.tags["key"] != tags["key"]:
        yield f"tag key of run {run.info.run_id} is not that of this result"
    if run.info.status != "FINISHED":
        yield f"run {run.info.run_id} is {run.info.status}, not FINISHED"
    wanted = {name: value[:LONGEST] for name, value in measurements.flat(entry.params).items()}
    for name in sorted({*wanted, *run.data.params}):
        if run.data.params.get(name) != wanted.get(name):
            yield f"param {name} is {run.data.params.get(name)}, by dvc.lock it is {wanted.get(name)}"
    for out in entry.outs:
        file = it.state.root / out / "provenance.json"
        if file.is_file() and it.records.file(run.info.run_id, f"{out}/provenance.json") != file.read_bytes():
            yield f"{out}/provenance.json attached to run {run.info.run_id} is not the one that lies there"


def _sorted(words: str | None) -> list[str]:
    """Hashes in any order: dvc.lock and dvc.yaml have outs in orders of their own."""
    return sorted((words or "").split())
