"""From the ranges of a recipe to Optuna's, and from what Optuna suggests to the recipe of a trial."""

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from flows.search.sampler import TPE
from tasks.core.errors import UserError
from tasks.recipe.load import changed
from tasks.recipe.schema import Recipe
from tasks.recipe.search import Choices, Range, absent, trains


def distributions(recipe: Recipe) -> dict[str, BaseDistribution]:
    """By setting, Optuna's form of its range; choices are JSON, for storages know no lists and mappings."""
    return {key: _distribution(entry) for key, entry in (recipe.search.space or {}).items()}


def suggested(trial: Trial, recipe: Recipe, level: float) -> dict[str, Any]:
    """The trial's values by setting, those that matter up to `level`.

    TPE is asked how to train when a trial is trained, so that it learns that from others that were. The other samplers
    give whole points.
    """
    params: dict[str, Any] = {}
    for key, one in distributions(recipe).items():
        if not level and recipe.search.sampler == TPE and trains(key):
            continue
        if isinstance(one, CategoricalDistribution):
            params[key] = trial.suggest_categorical(key, one.choices)
        elif isinstance(one, IntDistribution):
            params[key] = trial.suggest_int(key, one.low, one.high, log=one.log, step=one.step)
        elif isinstance(one, FloatDistribution):
            params[key] = trial.suggest_float(key, one.low, one.high, log=one.log, step=one.step)
    return decoded(recipe, params)


def own(recipe: Recipe) -> dict[str, Any]:
    """The parameters of the first trial: the recipe as it stands, where its settings lie within their ranges.

    None for the samplers that do not learn from trials: their points are to be theirs alone.
    """
    params: dict[str, Any] = {}
    if recipe.search.sampler in ("random", "qmc"):
        return params
    given = recipe.model_dump(mode="json")
    for key, one in distributions(recipe).items():
        at: Any = given
        for part in key.split("."):
            at = at[int(part) if isinstance(at, list) else part]
        value = json.dumps(at, sort_keys=True) if isinstance(one, CategoricalDistribution) else at
        with contextlib.suppress(ValueError):  # it is none of the choices, or null
            if one._contains(one.to_internal_repr(value)):
                params[key] = value
    return params


def cheap(recipe: Recipe) -> bool:
    """Whether drafts differ, and in nothing but cuts and a few choices before them: each is made in seconds."""
    before = {key: entry for key, entry in (recipe.search.space or {}).items() if not trains(key)}
    return bool(before) and all(isinstance(entry, Choices) or key.startswith("prune.") for key, entry in before.items())


def decoded(recipe: Recipe, params: Mapping[str, Any]) -> dict[str, Any]:
    """The values that parameters of a trial in a storage stand for."""
    space = recipe.search.space or {}
    return {key: json.loads(one) if isinstance(space[key], Choices) else one for key, one in params.items()}


def check(recipe: Recipe) -> None:
    """Refuses a space with an end that the recipe could not have, wherever the other ranges are.

    Raises:
        UserError: There is no space, or what is wrong with an end or a choice.
    """
    if not recipe.search.space:
        raise UserError(
            f"the recipe {recipe.name} has no search.space; name settings and their ranges there, such as "
            "search: {space: {score.criterion: {choices: [taylor, fisher]}}}"
        )
    given = recipe.model_dump(mode="json")
    if missing := [found for key in recipe.search.space if (found := absent(given, key))]:
        raise UserError("\n".join([f"search.space of the recipe {recipe.name}:", *(f"  {one}" for one in missing)]))
    ends = {key: _ends(entry) for key, entry in recipe.search.space.items()}
    wrong = []
    for key, values in ends.items():
        others = [{other: side[place] for other, side in ends.items() if other != key} for place in (0, -1)]
        for value in values:
            said = [_mistake(recipe, {**rest, key: value}) for rest in ({}, *others)]
            if all(said):
                wrong.append(f"  {key} = {json.dumps(value)}: {said[0]}")
    if wrong:
        raise UserError("\n".join([f"search.space of the recipe {recipe.name} goes too far:", *wrong]))


def _ends(entry: Range | Choices) -> tuple[Any, ...]:
    return entry.choices if isinstance(entry, Choices) else (entry.low, entry.high)


def _mistake(recipe: Recipe, values: Mapping[str, Any]) -> str:
    try:
        changed(recipe, values)
    except UserError as error:
        return str(error).splitlines()[1].strip()
    return ""


def _distribution(entry: Range | Choices) -> BaseDistribution:
    if isinstance(entry, Choices):
        return CategoricalDistribution([json.dumps(value, sort_keys=True) for value in entry.choices])
    if entry.whole:
        return IntDistribution(int(entry.low), int(entry.high), log=entry.log, step=int(entry.step or 1))
    return FloatDistribution(float(entry.low), float(entry.high), log=entry.log, step=entry.step)
