"""The chain behind a model: raw data, then every stage, each with what all records say of it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flows.facts import facts
from flows.lineage.figures import figures, measured
from flows.lineage.find import Found
from flows.lineage.state import Entry, State
from flows.promotion.record import decisions
from tasks.core.files import read_json

SOURCES = ("data", "model", "distill")
"""Sections of the recipe that name a source."""
TEST = "evaluate@test"


@dataclass(frozen=True)
class Raw:
    """What the pipeline was given."""

    name: str
    """data, model, or distill for what a student starts from."""
    source: str
    md5: str | None
    """In dvc.lock, of a file or directory of the workspace."""
    sha256: str | None
    rows: int | None
    read_by: list[str]


@dataclass(frozen=True)
class Node:
    """A stage's result."""

    stage: str
    outs: dict[str, dict[str, str | None]]
    """md5 in dvc.lock, and sha256 of what lies there, by path."""
    inputs: dict[str, dict[str, str | None]]
    """md5 in dvc.lock, and sha256 in provenance, by path."""
    parents: list[str]
    """The stages that made them."""
    code: dict[str, str]
    """sha256 in provenance, by path."""
    code_hash: str
    commit: str | None
    params: dict[str, Any]
    packages: dict[str, str]
    python: str | None
    seed: int | None
    device: str | None
    mlflow: str | None
    """Id of its record."""
    prefect: dict[str, str]
    """Ids of the flow run and of the task run that ran it."""
    started: int | None
    """Unix time in ms, in MLflow."""
    ended: int | None
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Chain:
    """A model and all behind it, makers before users; ends with the stage that made the model."""

    model: str
    path: str
    files: dict[str, str]
    """sha256 of the model's files."""
    registered: dict[str, Any] | None
    measured: dict[str, Any]
    raw: list[Raw]
    nodes: list[Node]
    decisions: list[dict[str, Any]]
    """Promotions, refusals and rollbacks of this very model."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def chain(found: Found) -> Chain:
    """Reads all records of a model's chain; judges none of them, as `verify` does."""
    state, version = found.state, found.version
    entries = state.upstream(found.entry.name)
    files = state.hashes.files(found.path)
    registered = version and {
        "name": version.name,
        "version": str(version.version),
        "aliases": list(version.aliases),
        "source": version.source,
        "created": version.creation_timestamp,
    }
    tested = state.root / "data" / "evaluate" / "test" / "quality.json"
    return Chain(
        model=found.name,
        path=found.path,
        files=files,
        registered=registered,
        measured=measured(tested, state.root / "data" / "times" / "test" / "times.json", found.path),
        raw=raws(state, entries),
        nodes=[_node(found, entry) for entry in entries],
        decisions=[record for record in decisions(state.home) if record["model"].get("files") == files],
    )


def raws(state: State, entries: list[Entry]) -> list[Raw]:
    """What the stages were given that none of them made."""
    found = []
    for name in SOURCES:
        readers = [entry for entry in entries if (entry.params.get(name) or {}).get("source")]
        if name == "model":
            readers = [entry for entry in entries if entry.name in ("prepare", "train")]
        if readers:
            params: dict[str, Any] = next((entry.params[name] for entry in readers if name in entry.params), {})
            source = str(params.get("source"))
            facts: dict[str, Any] = _data(state.root) if name == "data" else {"sha256": _noted(state, readers, source)}
            path = Path(source).as_posix()
            found.append(
                Raw(
                    name=name,
                    source=Path(source).name if Path(source).is_absolute() else source,
                    md5=next((entry.deps[path] for entry in readers if path in entry.deps), None),
                    sha256=facts.get("sha256") or (None if "://" in source else state.hashes.sha256(source)),
                    rows=facts.get("rows"),
                    read_by=[entry.name for entry in readers],
                )
            )
    return found


def provenance(state: State, out: str) -> dict[str, Any]:
    """The record in an out; empty if it is not there or no JSON."""
    try:
        return dict(read_json(state.root / out / "provenance.json"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, ValueError, TypeError):
        return {}


def _node(found: Found, entry: Entry) -> Node:
    state = found.state
    noted = provenance(state, next(iter(entry.outs)))
    run = found.records.of(entry)
    tags = run.data.tags if run else {}
    parents = {state.makers[out] for path in entry.inputs for out in state.sources(path)}
    shown: dict[str, Any] = {}
    for out in entry.outs:
        shown.update(figures(state.root / out))
    return Node(
        stage=entry.name,
        outs={out: {"md5": md5, "sha256": state.hashes.sha256(out)} for out, md5 in entry.outs.items()},
        inputs={path: {"md5": entry.deps[path], "sha256": noted.get("inputs", {}).get(path)} for path in entry.inputs},
        parents=[name for name in state.entries if name in parents],
        code=noted.get("code", {}),
        code_hash=facts(entry.name, entry.outs, entry.hashes)["code_hash"],
        commit=tags.get("mlflow.source.git.commit"),
        params=entry.params,
        packages=noted.get("packages", {}),
        python=noted.get("python"),
        seed=noted.get("seed"),
        device=noted.get("device"),
        mlflow=run and run.info.run_id,
        prefect={key: value for key, value in tags.items() if key.startswith("prefect.")},
        started=run and run.info.start_time,
        ended=run and run.info.end_time,
        figures=shown,
    )


def _noted(state: State, readers: list[Entry], source: str) -> str | None:
    """sha256 of a fetched source in the record of the stage that read it."""
    records = [provenance(state, next(iter(entry.outs))) for entry in readers]
    return next((record["sources"][source] for record in records if source in record.get("sources", {})), None)


def _data(root: Path) -> dict[str, Any]:
    file = root / "data" / "prepared" / "data.json"
    return dict(read_json(file).get("source", {})) if file.is_file() else {}
