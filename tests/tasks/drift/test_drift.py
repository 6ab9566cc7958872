"""New data against those of the champion: what is the same passes, and each way to be another is named."""

import csv
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tasks.core.errors import UserError
from tasks.drift import compare
from tasks.drift.sample import Sample
from tasks.drift.shift import class_shift, length_shift
from tasks.prepare import prepare
from tasks.recipe.load import resolve
from tasks.recipe.schema import Recipe
from tests.flows.tiny import BAD, GOOD, PLAIN, make_model

Row = tuple[str, str]


def row(choose: random.Random, number: int, positive: float = 0.5) -> Row:
    label = "pos" if choose.random() < positive else "neg"
    words = [*choose.sample(PLAIN, 5), choose.choice(GOOD if label == "pos" else BAD), str(number % 300)]
    choose.shuffle(words)
    return " ".join(words), label


def write(file: Path, rows: list[Row]) -> Path:
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([("text", "label"), *rows])
    return file


def rows(seed: int, count: int = 300, positive: float = 0.5) -> list[Row]:
    choose = random.Random(seed)  # noqa: S311
    return [row(choose, number, positive) for number in range(count)]


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return resolve(None, ["model.source=model", "data.source=rows.csv", "data.label=label", "data.labels=null",
                          "data.group=null", "task.max_length=16"])  # fmt: skip


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe) -> Path:
    """Data that a champion learned from."""
    root = tmp_path_factory.mktemp("before")
    make_model(root / "model")
    write(root / "rows.csv", rows(0))
    (root / "out").mkdir()
    prepare(recipe.data, recipe.task, recipe.model, recipe.seed, root, root / "out")
    return root / "out"


Change = Callable[[list[Row]], list[Row]]
FLIPPED = {"pos": "neg", "neg": "pos"}
GERMAN = [(f"ein Film Nummer {i} war sehr gut", "pos") for i in range(300)]
CHANGES: dict[str, tuple[Change, set[str]]] = {
    "nothing": (lambda old: old, set()),
    "more of the same": (lambda old: old + rows(1), set()),
    "other rows of the same kind": (lambda old: rows(2), set()),
    "a fifth of the rows": (lambda old: old[:60], {"rows"}),
    "longer texts": (lambda old: [(f"{text} {text} {text}", label) for text, label in old], {"length shift"}),
    "one class in four": (lambda old: rows(3, positive=0.2), {"class shift"}),
    "another language": (lambda old: old + GERMAN, {"class shift", "length shift", "unknown words"}),
    "labels the other way round": (lambda old: [(text, FLIPPED[label]) for text, label in old], {"relabelled"}),
    "a class more": (lambda old: old + [(text, "none") for text, _ in rows(4, 60)], {"classes"}),
}


@pytest.mark.parametrize("case", CHANGES)
def test_each_change_is_named(recipe: Recipe, before: Path, tmp_path: Path, case: str) -> None:
    change, missed = CHANGES[case]
    source = write(tmp_path / "rows.csv", change(rows(0)))
    found = compare(source, recipe.data, recipe.task, 0, before, recipe.retrain)
    assert {one.name for one in found if not one.met} == missed


def test_unknown_words_are_shown(recipe: Recipe, before: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "rows.csv", rows(0) + GERMAN)
    found = {one.name: one for one in compare(source, recipe.data, recipe.task, 0, before, recipe.retrain)}
    assert "of the words of 250 new texts are unknown, such as ein, nummer, war" in found["unknown words"].because


def test_without_a_champion_only_the_form_counts(recipe: Recipe, tmp_path: Path) -> None:
    source = write(tmp_path / "rows.csv", rows(0))
    (form,) = compare(source, recipe.data, recipe.task, 0, None, recipe.retrain)
    assert (form.name, form.met, form.reached) == ("form", True, 300)


def test_what_has_no_form_is_a_mistake(recipe: Recipe, before: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,stars\na film,5\n")
    with pytest.raises(UserError, match=r"label.*text, stars"):
        compare(tmp_path / "rows.csv", recipe.data, recipe.task, 0, before, recipe.retrain)


def test_a_question_that_is_not_asked_is_not_answered(recipe: Recipe, before: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "rows.csv", [(text, FLIPPED[label]) for text, label in rows(0)])
    limits = recipe.retrain.model_copy(update={"max_relabelled": None, "max_length_shift": None})
    found = compare(source, recipe.data, recipe.task, 0, before, limits)
    assert [one.name for one in found] == ["form", "classes", "rows", "class shift", "unknown words"]
    assert all(one.met for one in found)


def sample(lengths: list[int], counts: list[int]) -> Sample:
    return Sample(["x" * length for length in lengths], np.array(counts), ["a", "b"], {})


def test_shifts_are_what_their_formulas_say() -> None:
    """The largest gap of two cumulative shares; √(χ²/n) of a table of two columns, written out."""
    one, other = sample([1, 2, 3, 4], [30, 10]), sample([3, 4, 5, 6], [10, 30])
    assert length_shift(one, other)[0] == pytest.approx(0.5)
    expected = 20.0  # of every cell of [[30, 10], [10, 30]]
    assert class_shift(one, other)[0] == pytest.approx(np.sqrt(4 * (10**2 / expected) / 80))
    assert class_shift(one, one)[0] == 0.0
