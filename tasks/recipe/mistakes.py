"""What is wrong with a recipe, all of it at once, in plain sentences."""

import copy
import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tasks.recipe.schema import METRICS, Recipe

SENTENCES = {
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text; put it in quotes if it looks like something else",
    "string_too_short": "must not be empty",
    "string_pattern_mismatch": "must be letters, digits, dots, dashes and underscores: {pattern}",
    "tuple_type": "must be a list, such as [a, b]",
    "too_short": "the list must have a length of at least {min_length}",
    "too_long": "the list must have a length of at most {max_length}",
    "dict_type": "must be a mapping, such as {{key: value}}",
    "model_type": "must be a section with keys below it",
}
"""Error types of pydantic; the braces name what pydantic tells about the error."""

Path = tuple[str | int, ...]


def check(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> tuple[Recipe | None, list[str]]:
    """The recipe that `given` says, or every mistake in it, one sentence each.

    Rules between values are only checked by pydantic once all values are right. So what is wrong is replaced by its
    default for a second look, and mistakes found there count unless they are about a value that was replaced.
    """
    recipe, first = _look(given, defaults)
    if recipe:
        return recipe, []
    repaired = copy.deepcopy(dict(given))
    for path, _ in first:
        _repair(repaired, path, defaults)
    replaced = {str(path[-1]) for path, _ in first if path} | {str(path[1]) for path, _ in first if len(path) > 1}
    if {"type", "metric"} & replaced:
        repaired["task"]["metric"] = METRICS[repaired["task"]["type"]][0]
    for section in ("model", "data"):
        repaired[section]["source"] = repaired[section].get("source") or "not given"
    _, second = _look(repaired, defaults)
    lines = [line for _, line in first]
    lines += [line for path, line in second if line not in lines and not replaced & set(re.findall(r"\w+", line))]
    return None, lines


def nearest(word: str, words: Sequence[str]) -> str:
    """A question about the most similar of `words`, or nothing."""
    found = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""


def path_of(keys: Path) -> str:
    """`("prune", "rounds", 1)` as `prune.rounds[1]`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")


def _look(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> tuple[Recipe | None, list[tuple[Path, str]]]:
    try:
        # As JSON and strictly: a list may stand for a tuple, but neither true for 1 nor "5" for 5.
        return Recipe.model_validate_json(json.dumps(given), strict=True), []
    except ValidationError as error:
        return None, list(_sentences(error.errors(include_url=False), given, defaults))


def _sentences(
    errors: Sequence[ErrorDetails], given: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Iterator[tuple[Path, str]]:
    """One sentence per place; of the branches of a choice of types, the one that fits the value."""
    places: dict[Path, list[ErrorDetails]] = {}
    for error in errors:
        places.setdefault(_place(error, given), []).append(error)
    for place, found in places.items():
        deeper = any(len(other) > len(place) and other[: len(place)] == place for other in places)
        of_type = [error for error in found if error["type"].endswith("_type")]
        if deeper and all(error in of_type or error["type"] == "too_short" for error in found):
            continue
        error = next((error for error in found if not error["type"].endswith("_type")), found[0])
        kinds = list(dict.fromkeys(_sentence(error) for error in of_type))
        sentence = " or ".join(kinds).replace(" or must be ", " or ") if error in of_type else _sentence(error)
        yield place, _line(place, error, sentence, defaults)


def _line(place: Path, error: ErrorDetails, sentence: str, defaults: Mapping[str, Any]) -> str:
    name = path_of(place)
    if error["type"] == "extra_forbidden":
        return f"{name}: unknown key{_nearest_key(place, defaults)}"
    if error["type"] == "missing":
        return f"{name}: is missing"
    if error["type"] == "value_error":
        return f"{name}: {sentence}" if name else sentence
    if error["loc"][-1] == "[key]":
        return f"{name}: unknown key; {sentence}{_nearest_value(error)}"
    if error["input"] is None and error["type"] == "string_type":
        return f"{name}: is not set; name one in the recipe or with --set {name}=…"
    return f"{name}: {_short(error['input'])}; {sentence}{_nearest_value(error)}"


def _sentence(error: ErrorDetails) -> str:
    facts = error.get("ctx", {})
    if error["type"] == "literal_error":
        return f"must be {'one of ' if len(_choices(error)) > 1 else ''}{', '.join(_choices(error))}"
    if error["type"] == "value_error":
        return str(facts["error"])
    return SENTENCES.get(error["type"], error["msg"]).format(**facts)


def _choices(error: ErrorDetails) -> list[str]:
    return re.findall(r"'([^']*)'", str(error.get("ctx", {}).get("expected", "")))


def _nearest_value(error: ErrorDetails) -> str:
    return nearest(str(error["input"]), _choices(error))


def _nearest_key(place: Path, defaults: Mapping[str, Any]) -> str:
    """The most similar key of the same section; otherwise keys of that name in other sections."""
    section: Any = defaults
    for key in place[:-1]:
        section = section[key]
    here = nearest(str(place[-1]), list(section))
    owners = [name for name, keys in defaults.items() if isinstance(keys, dict) and place[-1] in keys]
    return f"; did you mean {' or '.join(f'{name}.{place[-1]}' for name in owners)}?" if owners else here


def _place(error: ErrorDetails, given: Any) -> Path:
    """Where an error is, without the names that pydantic gives to the branches of a choice of types."""
    place: list[str | int] = []
    for key in error["loc"]:
        inside = key in given if isinstance(given, Mapping) else isinstance(given, list) and isinstance(key, int)
        if inside:
            place.append(key)
            given = given[key]
    return (*place, error["loc"][-1]) if error["type"] == "missing" else tuple(place)


def _repair(given: dict[str, Any], place: Path, defaults: Mapping[str, Any]) -> None:
    """Replaces what is at `place` (a whole list for one of its entries) by its default, or removes it."""
    target: Any = given
    source: Any = defaults
    for key in place[:-1]:
        if not isinstance(target.get(key), dict) or not isinstance(source.get(key), dict):
            place = (key,)
            break
        target, source = target[key], source[key]
    if not place:
        return
    key = place[-1]
    if key in source:
        target[key] = copy.deepcopy(source[key])
    else:
        target.pop(key, None)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}…"
