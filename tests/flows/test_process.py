"""The fork server that is started before its flow."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.process import AHEAD, Workers
from tasks.recipe.load import changed, read
from tasks.recipe.schema import Recipe

STAGES = "tests.flows.fake"


@pytest.fixture
def recipe() -> Recipe:
    return read(Path(__file__).parents[2] / "params" / "pipeline.yaml")


@pytest.fixture
def ahead(tmp_path: Path, recipe: Recipe) -> Iterator[Workers]:
    with Workers(tmp_path, recipe, ["secateur", "run"], STAGES, ()) as workers:
        token = AHEAD.set(workers)
        yield workers
        AHEAD.reset(token)


def test_a_flow_takes_what_was_started_for_it(ahead: Workers, tmp_path: Path, recipe: Recipe) -> None:
    assert Workers.for_flow(tmp_path, recipe, ["secateur", "run"], STAGES, ()) is ahead


@pytest.mark.parametrize("setting", [{"threads": 97}, {"model.source": "hf://NAME@REVISION"}])
def test_another_environment_has_its_own(
    setting: dict[str, object], ahead: Workers, tmp_path: Path, recipe: Recipe
) -> None:
    with Workers.for_flow(tmp_path, changed(recipe, setting), ["secateur", "run"], STAGES, ()) as workers:
        assert workers is not ahead
