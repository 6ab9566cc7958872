"""A workspace whose stages take no time, with a table of its own, whose dense model is the champion."""

import csv
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import tasks.gate
from tasks.core.files import tree_hash
from tasks.gate import Comparison, Earlier
from tests.flows.conftest import calls, commit_all, make_workspace
from tests.flows.tiny import BAD, GOOD, PLAIN

SAME = Comparison(50, 0.8, 0.8, 0.0, 0.005, 100, 100, 1.0, 1.0)
RECIPE = """
name: reviews
model: {source: model}
data: {source: rows.csv}
budget: {max_drop: 0.02}
prune: {rounds: [0.3]}
distill: {enabled: false}
quantize: {models: []}
limits: {wait: 0}
"""
CHAIN = ["prepare", "train", "score@r1", "prune@r1", "finetune@r1", "evaluate@r1", "distill", "evaluate@test", "report"]


def rows(seed: int, count: int, *, flipped: bool = False) -> list[tuple[str, str]]:
    """Texts and labels that a word tells."""
    choose = random.Random(seed)  # noqa: S311
    found = []
    for number in range(count):
        positive = choose.random() < 0.5
        words = [*choose.sample(PLAIN, 5), choose.choice(GOOD if positive else BAD), str(number % 300)]
        choose.shuffle(words)
        found.append((" ".join(words), "pos" if positive != flipped else "neg"))
    return found


def write_rows(file: Path, table: Sequence[tuple[str, str]]) -> None:
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([("text", "label"), *table])


def retrain(root: Path, *settings: str) -> int:
    """In this process; the exit status."""
    from flows.progress import Progress
    from flows.request import Request
    from flows.retraining.command import retrain as work

    return work(Request(root, root / "recipe.yaml", settings, (), "tests.flows.fake"), Progress())


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Figures in place of real ones; what was compared with what."""
    return stand_in(monkeypatch)


def stand_in(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    found: dict[str, Any] = {"new": SAME, "earlier": Earlier(30, 0.8, 0.8, 0.0, 0.005), "seen": []}

    def compare(candidate: Path, reference: Path, *_: Any) -> Comparison:
        found["seen"].append((tree_hash(candidate), tree_hash(reference)))
        return found["new"]

    monkeypatch.setattr(tasks.gate, "compare", compare)
    monkeypatch.setattr(tasks.gate, "earlier", lambda *_: found["earlier"])
    return found


@pytest.fixture(scope="session")
def reviewed(prefect: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """After a first retraining. Not to be changed: see `reviews`."""
    root = make_workspace(tmp_path_factory.mktemp("reviewed") / "workspace")
    (root / "model").mkdir()
    (root / "model" / "config.json").write_text("{}")
    (root / "recipe.yaml").write_text(RECIPE)
    commit_all(root)
    write_rows(root / "rows.csv", rows(0, 300))
    patch = pytest.MonkeyPatch()
    stand_in(patch)
    assert retrain(root) == 0
    yield root
    patch.undo()


@pytest.fixture
def reviews(reviewed: Path, measured: dict[str, Any], tmp_path: Path) -> Path:
    root = tmp_path / "workspace"
    shutil.copytree(reviewed, root)
    calls(root)
    return root
