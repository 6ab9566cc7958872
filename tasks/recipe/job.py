"""One execution of a stage: the paths and params that dvc.yaml declares for it, and what it leaves."""

import hashlib
import json
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tasks.core.files import replace, tree_hash, write_json
from tasks.recipe.schema import Recipe

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "accelerate",
    "numpy",
    "onnx",
    "onnxruntime",
    "safetensors",
)


@dataclass(frozen=True)
class Job:
    """A stage may touch only what is declared; anything else is a `KeyError`, so code and dvc.yaml cannot part."""

    stage: str
    """Name in dvc.yaml with its item: `prepare`, `prune@r1`."""
    recipe: Recipe
    root: Path
    """The workspace: paths of dvc.yaml are relative to it."""
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    params: Mapping[str, Any]
    """The values of the params that the stage declares."""
    item: Mapping[str, Any] = field(default_factory=dict)
    """The entry of `foreach`."""
    sources: dict[str, str] = field(default_factory=dict)
    """sha256 of what was fetched for it, by URI; see `note`."""

    def note(self, uri: str, fetched: Path) -> Path:
        """Has the record say what was fetched; a path of the workspace is an input already."""
        if "://" in uri:
            self.sources[uri] = tree_hash(fetched)
        return fetched

    @property
    def key(self) -> str:
        """What stands behind the @, or an empty string."""
        return self.stage.partition("@")[2]

    def dep(self, path: str) -> Path:
        """A declared input."""
        if path not in self.deps:
            raise KeyError(f"{self.stage} reads {path}, which dvc.yaml does not list; it lists {', '.join(self.deps)}")
        return self.root / path

    def out(self, path: str) -> Path:
        """The directory to write a declared out in; `publish` gives it its name."""
        if path not in self.outs:
            raise KeyError(f"{self.stage} writes {path}, which dvc.yaml does not list; it lists {', '.join(self.outs)}")
        return _partial(self.root / path)

    def inputs(self) -> dict[str, str]:
        """sha256 of every declared input that is not code."""
        return {_public(path): tree_hash(self.root / path) for path in self.deps if not _is_code(path)}

    def code(self) -> dict[str, str]:
        """sha256 of every declared piece of code."""
        return {path: tree_hash(self.root / path) for path in self.deps if _is_code(path)}

    def scratch(self) -> Path:
        """Where a training may leave checkpoints: the same directory for the same inputs, code and params."""
        facts = json.dumps([self.stage, self.inputs(), self.code(), self.params], sort_keys=True)
        name = f"{self.stage}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"
        return self.root / ".secateur" / "scratch" / name

    def start(self) -> None:
        """Makes empty directories for the outs."""
        for out in self.outs:
            shutil.rmtree(_partial(self.root / out), ignore_errors=True)
            _partial(self.root / out).mkdir(parents=True)

    def discard(self) -> None:
        """Removes what was not published."""
        for out in self.outs:
            shutil.rmtree(_partial(self.root / out), ignore_errors=True)

    def publish(self, device: str) -> None:
        """Adds `provenance.json` to each out and renames it to its name.

        The record holds no time, host name or path outside the workspace, so the same work leaves the same bytes.
        """
        facts = {
            "stage": self.stage,
            "params": self.params,
            "inputs": self.inputs(),
            "code": self.code(),
            **({"sources": self.sources} if self.sources else {}),
            "packages": {name: version(name) for name in PACKAGES},
            "python": platform.python_version(),
            "seed": self.recipe.seed,
            "device": device,
        }
        for out in self.outs:
            write_json(_partial(self.root / out) / "provenance.json", {**facts, "out": out})
        for out in self.outs:
            replace(_partial(self.root / out), self.root / out)


def _is_code(path: str) -> bool:
    return path.startswith("tasks/")


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _public(path: str) -> str:
    """A path for a record: one outside the workspace shows only its last part."""
    return Path(path).name if Path(path).is_absolute() else path
