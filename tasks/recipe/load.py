"""From defaults, a recipe file and `--set key=value` to a checked recipe, and to the text of params/pipeline.yaml."""

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tasks
from tasks.core.errors import UserError
from tasks.recipe.mistakes import check, nearest
from tasks.recipe.schema import Recipe
from tasks.recipe.yaml12 import YamlError, dumps, loads

HEADER = (
    "# The recipe of the last run, complete, and the items of dvc.yaml that follow from it. Written by secateur run.\n"
)
NOT_RECIPES = ("default", "pipeline")


def resolve(recipe: Path | None, overrides: Sequence[str]) -> Recipe:
    """The defaults, changed by a recipe file, changed by `key.sub=value` settings.

    Sections merge key by key; any other value, lists and the search space included, replaces what was there.

    Args:
        recipe: A file, or the bare name of one in params/; None is the embedded quickstart.
        overrides: Settings such as `train.epochs=2`; the value is YAML.

    Raises:
        UserError: Everything that is wrong with the file, the settings and the values, a line for each.
    """
    path = _find(recipe or Path("quickstart"))
    defaults = _defaults()
    given, mistakes = _mapping(path)
    merged = _merge(defaults, given)
    for override in overrides:
        try:
            merged = _merge(merged, _setting(override))
        except UserError as error:
            mistakes.append(str(error))
    checked, more = check(merged, defaults)
    return _judge(checked, mistakes + more, path)


def read(pipeline: Path) -> Recipe:
    """The recipe in params/pipeline.yaml, which is complete; its `dag` is derived and left aside.

    Raises:
        UserError: There is no such file, or something in it is wrong.
    """
    if not pipeline.is_file():
        raise UserError(f"there is no {pipeline.name} yet; secateur run writes it")
    given, mistakes = _mapping(pipeline)
    given.pop("dag", None)
    checked, more = check(given, _defaults())
    return _judge(checked, mistakes + more, pipeline)


def changed(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """`recipe` with other values at dotted keys; a number in a key counts the entries of a list.

    Raises:
        UserError: Everything that is wrong with it then, a line for each.
    """
    given = recipe.model_dump(mode="json")
    for key, value in values.items():
        *keys, last = key.split(".")
        at: Any = given
        for part in keys:
            at = at[int(part) if isinstance(at, list) else part]
        at[int(last) if isinstance(at, list) else last] = value
    checked, mistakes = check(given, _defaults())
    return _judge(checked, mistakes, Path(recipe.name))


def difference(recipe: Recipe) -> dict[str, Any]:
    """What a recipe file must say for `resolve` to come to `recipe`."""
    return _difference(_defaults(), recipe.model_dump(mode="json"))


def dump(recipe: Recipe) -> str:
    """The text of params/pipeline.yaml: the whole recipe and the `dag` that dvc.yaml unrolls."""
    return HEADER + dumps({**recipe.model_dump(mode="json"), "dag": dag(recipe)})


def dag(recipe: Recipe) -> dict[str, Any]:
    """What dvc.yaml takes from the recipe: local inputs, and the items of every `foreach`."""
    goals = recipe.prune.goals
    names = [f"r{number + 1}" for number in range(len(goals))]
    rounds: dict[str, dict[str, Any]] = {}
    evaluations: dict[str, dict[str, str]] = {}
    model, after = "models/dense", "data/teacher"
    early = "models/dense/early" if recipe.prune.rewind else "models/dense/provenance.json"
    for number, name in enumerate(names):
        times = "data/times/table" if goals[number].cost == "latency" else "models/dense/provenance.json"
        rounds[name] = {"model": model, "after": after, "early": early, "times": times, "goal": goals[number].as_item()}
        evaluations[name] = {"models": f"models/rounds/{name}", "reads": "data/teacher", "out": f"data/rounds/{name}"}
        model, after = f"models/rounds/{name}", f"data/rounds/{name}"
    evaluations["test"] = {"models": "models", "reads": "data/rounds", "out": "data/evaluate/test"}
    quantizable = {
        "dense": {"models": "models/dense", "reads": "models/dense/provenance.json"},
        "pruned": {"models": "models/rounds", "reads": "data/rounds"},
        "student": {"models": "models/student", "reads": "models/student/provenance.json"},
    }
    return {
        "data": _local(recipe.data.source),
        "model": _local(recipe.model.source),
        "student": _local(recipe.distill.source) if recipe.distill.source else "tasks/sources",
        "table": {"dense": {}} if recipe.prune.timed else {},
        "rounds": rounds,
        "curves": recipe.prune.curves,
        "evaluate": evaluations,
        "quantize": {name: quantizable[name] for name in recipe.quantize.models},
    }


def _params() -> Path:
    return Path(str(tasks.__file__)).parents[1] / "params"


def _defaults() -> dict[str, Any]:
    value, _ = loads((_params() / "default.yaml").read_text(encoding="utf-8"))
    return dict(value)


def _find(recipe: Path) -> Path:
    """The file that `recipe` names."""
    if recipe.is_file():
        return recipe
    shipped = _params() / f"{recipe.name.removesuffix('.yaml')}.yaml"
    if len(recipe.parts) == 1 and not recipe.is_dir() and shipped.is_file():
        return shipped
    names = sorted(path.stem for path in _params().glob("*.yaml") if path.stem not in NOT_RECIPES)
    what = "is a directory, not a recipe" if recipe.is_dir() else "is not there"
    raise UserError(
        f"the recipe {recipe} {what}; give a file or one of {', '.join(names)}{nearest(recipe.stem, names)}"
    )


def _mapping(path: Path) -> tuple[dict[str, Any], list[str]]:
    """What a file says, and its keys that stand twice."""
    try:
        value, twice = loads(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start + 1}); save it as UTF-8") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except YamlError as error:
        raise UserError(f"{path} is not YAML: {error}") from error
    if value is None:
        return {}, twice
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no recipe; it must be keys and values, such as name: quickstart")
    return value, twice


def _setting(override: str) -> dict[str, Any]:
    """`a.b=1` as `{"a": {"b": 1}}`."""
    key, equals, text = override.partition("=")
    keys = key.strip().split(".")
    if not equals or not all(keys):
        raise UserError(f"--set {override}: must be key=value, such as train.epochs=2")
    if "[" in key:
        raise UserError(f"--set {override}: a list is set as a whole, such as {key.partition('[')[0]}=[…]")
    try:
        value, twice = loads(text)
    except YamlError as error:
        raise UserError(f"--set {override}: the value is not YAML: {error}; put it in quotes if it is text") from error
    if twice:
        raise UserError(f"--set {override}: {twice[0]}")
    for name in reversed(keys):
        value = {name: value}
    return dict(value)


def _merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `change`; mappings merge but the search space, everything else is replaced."""
    merged = copy.deepcopy(dict(base))
    for key, value in change.items():
        both = key != "space" and isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _difference(base: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of `value` that `base` has not; mappings entry by entry."""
    found = {}
    for key, new in value.items():
        old = base.get(key)
        if isinstance(new, dict) and isinstance(old, dict) and set(old) <= set(new):
            if inner := _difference(old, new):
                found[key] = inner
        elif new != old:
            found[key] = new
    return found


def _judge(recipe: Recipe | None, mistakes: Sequence[str], path: Path) -> Recipe:
    if recipe and not mistakes:
        return recipe
    count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
    raise UserError("\n".join([f"{count} in the recipe {path.stem}:", *(f"  {line}" for line in mistakes)]))


def _local(source: str) -> str:
    """The path that DVC watches: the source itself, or, for a URI, the code that fetches it."""
    return "tasks/sources" if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", source) else Path(source).as_posix()
