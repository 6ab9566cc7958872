"""What is wrong with a search is one message."""

from pathlib import Path

import pytest

from flows.progress import Progress
from flows.search.run import begun, search
from flows.search.storage import opened
from tasks.core.errors import EnvironmentFault, UserError
from tests.flows.searching import SETTINGS, SPACE, STAGES, done, empty, go


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return empty(tmp_path, monkeypatch)


def test_another_space_is_refused_with_what_changed(root: Path) -> None:
    recipe, place = begun(root, None, SETTINGS, None)
    opened(place, recipe)
    with pytest.raises(UserError, match=r"begun with another recipe: evaluate.repeats was 3, is 8; put that back"):
        go(root, 13, "evaluate.repeats=8")
    with pytest.raises(UserError, match=r"search.sampler was not set, is .random."):
        go(root, 13, "search.sampler=random")
    space = SPACE.replace("high: 0.9", "high: 0.8")
    words = r"recipe: search.space.prune.rounds.0.neuron was .*0.9, .*, is .*0.8, .*; put that back"
    with pytest.raises(UserError, match=words):
        go(root, 13, f"search.space={space}")


def test_a_mistake_in_the_data_is_that_of_no_trial(root: Path) -> None:
    (root.parent / "mistake").touch()
    with pytest.raises(UserError, match="the data have no column stars"):
        go(root, 3)
    assert done(root) == []
    (root.parent / "mistake").unlink()
    go(root, 3)
    assert len(done(root)) == 3


def test_a_storage_that_is_no_good_is_one_message(root: Path) -> None:
    with pytest.raises(UserError, match=r"search.storage is no URL of a database; give postgresql://"):
        go(root, 1, "search.storage=nonsense")
    with pytest.raises(EnvironmentFault, match=r"unable to open database file\); start it, or set search.storage"):
        go(root, 1, "search.storage=sqlite:////nowhere/study.db")
    with pytest.raises(
        UserError, match=r"postgresql://me:\*\*\*@host/study holds a password; put it in PGPASSWORD"
    ) as caught:
        go(root, 1, "search.storage=postgresql://me:secret@host/study")
    assert "secret" not in str(caught.value)
    assert not (root.parent / "calls").exists()


def test_an_end_that_no_recipe_has_is_refused_at_the_door(root: Path) -> None:
    with pytest.raises(UserError, match=r"prune.damping = -1: prune.damping: -1.*must be above 0"):
        go(root, 1, "search.space={prune.damping: {low: -1, high: 1}}")
    with pytest.raises(UserError, match=r"score.criterion = .tailor.: .*did you mean taylor"):
        go(root, 1, "search.space={score.criterion: {choices: [taylor, tailor]}}")
    with pytest.raises(UserError, match=r"search.space of .*quickstart:\n  prune.rounds.2: there is no 2, but 0"):
        go(root, 1, "search.space={prune.rounds.2: {low: 0.1, high: 0.5}}")
    with pytest.raises(UserError, match=r"quickstart has no search.space; name"):
        search(root, None, ["search.space=null"], None, 1, 1, None, Progress(), STAGES)
