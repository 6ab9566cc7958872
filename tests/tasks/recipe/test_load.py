"""Defaults, recipe and settings make one checked recipe; all mistakes come at once."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import parse_yaml
from pydantic import BaseModel

from tasks.recipe.load import dag, dump, read, resolve
from tasks.recipe.schema import Recipe

PARAMS = Path(__file__).parents[3] / "params"
SHIPPED = sorted(path.stem for path in PARAMS.glob("*.yaml") if path.stem not in ("default", "pipeline"))


def keys(model: type[BaseModel], before: str = "") -> set[str]:
    found = set()
    for name, field in model.model_fields.items():
        kind = field.annotation
        is_section = isinstance(kind, type) and issubclass(kind, BaseModel)
        found |= keys(kind, f"{before}{name}.") if is_section else {before + name}
    return found


def flat(values: dict[str, Any], before: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield from flat(value, f"{before}{key}.") if isinstance(value, dict) else [before + key]


def test_defaults_hold_every_key_and_no_other() -> None:
    default: dict[str, Any] = yaml.safe_load((PARAMS / "default.yaml").read_text())
    assert set(flat(default)) == keys(Recipe)


def test_every_key_is_explained_where_it_first_stands() -> None:
    explained = set()
    for line in (PARAMS / "default.yaml").read_text().splitlines():
        match = re.match(r"\s*(\w+):(.*)", line)
        if match and (match[2].partition("#")[0].strip() or line.startswith(" ")):
            assert match[1] in explained or " # " in match[2], line
            explained.add(match[1])


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_resolve_and_survive_the_pipeline_file(name: str, tmp_path: Path) -> None:
    recipe = resolve(Path(name), [])
    assert recipe.name == name
    (tmp_path / "pipeline.yaml").write_text(dump(recipe))
    assert read(tmp_path / "pipeline.yaml") == recipe


@pytest.mark.parametrize(
    "labels", ['["no", "yes"]', '["5e-5", "1e3"]', '["010", "0x1f"]', '["~", "null"]', '["1:30", "a: b"]']
)
def test_dvc_reads_what_we_write(labels: str) -> None:
    recipe = resolve(None, [f"data.labels={labels}", "train.learning_rate=1e-7"])
    seen = parse_yaml(dump(recipe), "pipeline.yaml")
    assert seen == {**recipe.model_dump(mode="json"), "dag": dag(recipe)}
    assert Recipe.model_validate({k: v for k, v in seen.items() if k != "dag"}) == recipe


def test_sections_merge_and_lists_replace(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "model: {source: m}\ndata: {source: d.csv}\nprune: {rounds: [0.1, {head: 0.3}]}\ntrain: {epochs: 7}\n"
    )
    recipe = resolve(path, ["train.epochs=8", "prune.rounds=[{head: 0.2}]", "train.epochs=9"])
    assert recipe.train.epochs == 9
    assert recipe.train.batch_size == 32
    assert recipe.prune.rounds == ({"head": 0.2},)
