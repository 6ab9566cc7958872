"""Which model is meant: a directory, a registered version or the sha256 of a file; and the state it is of."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flows.database import address, words
from flows.lineage.records import MODELS, Records
from flows.lineage.state import Entry, State, commit_with, past, present
from flows.predict import names_of
from flows.promotion.record import decisions
from flows.workspace import PIPELINE
from tasks.core.errors import UserError
from tasks.core.files import file_hash
from tasks.recipe.load import read

WEIGHTS = ("model.safetensors", "model.onnx")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Found:
    """A model and the state of the pipeline that made it."""

    name: str
    """As given."""
    state: State
    path: str
    """The directory of the model, relative to the state's root."""
    records: Records
    version: Any = None
    """The registered version, if one was asked for."""
    copy: Path | None = None
    """The directory that was given, if it lies elsewhere; its weights are those of `path`."""

    @property
    def entry(self) -> Entry:
        """The stage that made it."""
        return self.state.entries[self.state.makers[self.out]]

    @property
    def out(self) -> str:
        """The out that it is or lies in."""
        return next(out for out in self.state.makers if f"{self.path}/".startswith(f"{out}/"))

    @property
    def directory(self) -> Path:
        """Where it lies."""
        return self.state.root / self.path


@contextmanager
def found(root: Path, model: str) -> Iterator[Found]:
    """The model that is meant; what had to be brought together for a state of the past vanishes with the block.

    Args:
        root: The workspace.
        model: A directory, a name of the last run, `models:/NAME@ALIAS`, `models:/NAME/VERSION`, or a file's sha256.

    Raises:
        UserError: There is none; says what there is.
    """
    state = present(root)
    records = Records(root, read(root / PIPELINE).name)
    with ExitStack() as stack:
        stack.enter_context(words(address(root)))
        if model.startswith(MODELS):
            yield _registered(model, state, records, stack)
        elif SHA256.fullmatch(model):
            yield _with_file(model, state, records, stack)
        elif weights := _copied(root, Path(model).resolve()):
            one = _with_file(file_hash(weights), state, records, stack)
            yield replace(one, name=model, copy=weights.parent)
        else:
            yield Found(model, state, _directory(state, model), records)


def _registered(uri: str, state: State, records: Records, stack: ExitStack) -> Found:
    version = records.version(uri)
    if not {"out_md5", "stage"} <= set(version.tags):
        raise UserError(f"{uri} has no tags that say what made it; secateur run registers models with them")
    md5 = version.tags["out_md5"]
    if not _out(state, md5, version.tags["stage"]):
        commit = commit_with(state.home, md5)
        if commit:
            state = stack.enter_context(past(state.home, commit))
    out = _out(state, md5, version.tags["stage"])
    if not out:
        raise UserError(
            f"{uri}: neither dvc.lock nor any git commit of it has a result {md5} of {version.tags['stage']}; "
            "fetch the commits of the workspace that made it"
        )
    return Found(uri, state, version.tags.get("path", out), records, version)


def _out(state: State, md5: str, stage: str) -> str | None:
    """The out that is a model, of the stage with these outs."""
    entry = state.entries.get(stage)
    if entry is None or sorted(entry.outs.values()) != sorted(md5.split()):
        return None
    return next((out for out in entry.outs if out.startswith("models/")), None)


def _with_file(sha256: str, state: State, records: Records, stack: ExitStack) -> Found:
    """The model that a file with this hash belongs to: of the last run, or of those that the gate has seen."""
    outs = [out for out in state.makers if out.startswith("models/")]
    files = [file for out in outs for file in sorted((state.root / out).rglob("*")) if file.is_file()]
    for file in sorted(files, key=lambda file: file.name not in WEIGHTS):
        if file_hash(file) == sha256:
            return Found(sha256, state, file.parent.relative_to(state.root).as_posix(), records)
    for decision in reversed(decisions(state.home)):
        one = decision["model"]
        if sha256 in one.get("files", {}).values():
            return replace(_registered(f"{MODELS}{one['name']}/{one['version']}", state, records, stack), name=sha256)
    raise UserError(
        f"no file of a model of this workspace has the sha256 {sha256}; give a model's directory or its name"
    )


def _copied(root: Path, given: Path) -> Path | None:
    """The weights of a model outside of the workspace: what they are is what it is."""
    if given.is_relative_to(root.resolve()):
        return None
    return next((given / name for name in WEIGHTS if (given / name).is_file()), None)


def _directory(state: State, model: str) -> str:
    names = names_of(state.home)
    given = Path(model).resolve()
    if given.is_dir() and given.is_relative_to(state.home.resolve()):
        path = given.relative_to(state.home.resolve()).as_posix()
        if any(f"{path}/".startswith(f"{out}/") for out in state.makers):
            return path
    elif model in names:
        return names[model]
    what = "is no result of this workspace's pipeline" if given.is_dir() else "no such directory, and no model of it"
    raise UserError(f"{model}: {what}; there are: {', '.join([*names, *sorted(_models(state))])}")


def _models(state: State) -> list[str]:
    return [out for out in state.makers if out.startswith("models/")]
