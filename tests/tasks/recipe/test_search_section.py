"""The search section: one clear sentence for each mistake; settings at dotted keys, and back to a recipe file."""

from pathlib import Path

import pytest
import yaml

from tasks.core.errors import UserError
from tasks.recipe.load import changed, difference, resolve
from tasks.recipe.search import absent

MISTAKES = {
    "{prune.rounds.0: {low: 0.5, high: 0.5}}": "prune.rounds.0: the range from 0.5 to 0.5 is empty",
    "{score.rows: {low: 64, high: 32}}": "score.rows: the range from 64 to 32 is empty",
    "{finetune.learning_rate: {low: 0, high: 1, log: true}}": "a log scale from 0 goes through zero",
    "{finetune.epochs: {low: 1, high: 4, step: 0.5}}": "of whole numbers it is a whole number",
    "{score.criterion: {choices: [taylor]}}": "nothing to choose from",
    "{score.criterion: {choices: [taylor, taylor]}}": "a choice stands twice",
    "{score.criterion: [taylor, fisher]}": "score.criterion: must be {low: 0.1, high: 0.5}",
    "{prune.ruonds: {low: 0.1, high: 0.5}}": "prune.ruonds: there is no ruonds, but kinds, rounds",
    "{evaluate.repeats: {low: 1, high: 5}}": "evaluate.repeats; search.model is pruned, made by settings of train,",
    "{distill.layers: {choices: [[0], [1]]}}": "distill.layers; search.model is pruned, made by settings of train,",
    "{quantize.methods: {choices: [[fp32], [static]]}}": "finetune; search.quantized is false",
    "{}": "names no setting",
}


@pytest.mark.parametrize("space", MISTAKES)
def test_a_bad_space_is_one_mistake(space: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve(None, [f"search.space={space}"])
    first, *lines = str(caught.value).splitlines()
    assert first == "1 mistake in the recipe quickstart:"
    assert len(lines) == 1
    assert lines[0].startswith("  search.space: ")
    assert MISTAKES[space] in lines[0]


STUDENT = ["search.model=student", "search.levels=[1]", "search.space={distill.layers: {choices: [[0, 5], [0, 2, 5]]}}"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["search.levels=[0, 1]"], "search: levels begin with 0, a cut in one shot; a student is trained"),
        (
            ["distill.enabled=false", "quantize.models=[pruned]"],
            "search.model is student, but distill.enabled is false",
        ),
        (["search.quantized=true", "quantize.models=[pruned]"], "but quantize.models does not name student"),
        (["search.space={score.rows: {low: 8, high: 64}}"], "score.rows; search.model is student, made by settings of"),
    ],
)
def test_students_are_searched_by_what_makes_them(settings: list[str], said: str) -> None:
    assert resolve(None, STUDENT).search.sections == ("train", "distill")
    with pytest.raises(UserError) as caught:
        resolve(None, [*STUDENT, *settings])
    assert said in str(caught.value)


def test_a_run_does_not_mind_what_its_search_would() -> None:
    """The quickstart with another number of rounds is a recipe still."""
    recipe = resolve(None, ["prune.rounds=[0.2]"])
    assert "prune.rounds.1" in (recipe.search.space or {})
    assert absent(recipe.model_dump(mode="json"), "prune.rounds.1") == "prune.rounds.1: there is no 1, but 0"


def test_mistakes_in_several_ranges_all_come() -> None:
    with pytest.raises(UserError, match=r"prune.rounds.0: .* empty.*; score.rows: .* empty"):
        resolve(None, ["search.space={prune.rounds.0: {low: 1, high: 0}, score.rows: {low: 2, high: 2}}"])


def test_settings_change_at_dotted_keys() -> None:
    recipe = resolve(None, [])
    values = {"prune.rounds.0": 0.2, "score.criterion": "fisher"}
    assert changed(recipe, values) == resolve(None, ["prune.rounds=[0.2, 0.6]", "score.criterion=fisher"])
    with pytest.raises(UserError, match="rounds must not fall"):
        changed(recipe, {"prune.rounds.0": 0.9})


def test_the_difference_is_a_recipe_file(tmp_path: Path) -> None:
    recipe = resolve(None, ["prune.rounds={cubic: 0.6, count: 3}", "search.space={score.rows: {low: 8, high: 64}}"])
    said = difference(recipe)
    assert "evaluate" in said
    assert "quantize" in said
    assert "bootstrap" not in said["evaluate"]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(said))
    assert resolve(tmp_path / "mine.yaml", []) == recipe
