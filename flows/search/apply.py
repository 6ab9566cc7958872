"""`secateur search --apply`: the settings of a trial as a recipe, and its model made again by the pipeline."""

import json
from collections.abc import Sequence
from pathlib import Path

from flows.progress import Progress
from flows.request import Request
from flows.run import run
from flows.search.level import at_level
from flows.search.place import Place
from flows.search.run import begun
from flows.workspace import write
from tasks.core.errors import EnvironmentFault, UserError
from tasks.core.files import tree_hash
from tasks.recipe.load import changed, difference
from tasks.recipe.schema import Recipe
from tasks.recipe.yaml12 import dumps

BEST = "best"


def apply(
    root: Path, recipe: Path | None, overrides: Sequence[str], name: str | None, trial: str, progress: Progress
) -> None:
    """Writes params/NAME-TRIAL.yaml, shows what it changes, runs it, and compares its model with the trial's.

    Args:
        root: The workspace.
        recipe: The recipe that was searched; None is the quickstart.
        overrides: The settings it was searched with.
        name: Of the search; None: the recipe's.
        trial: Its number, or `best`.
        progress: Where to say how it goes.

    Raises:
        UserError: There is no such trial, or none that can be best.
        EnvironmentFault: The run failed, or its model is another one than the trial's.
    """
    one, place = begun(root, recipe, overrides, name)
    number, wanted, model, digest = _found(place, one, trial)
    path = root / "params" / f"{place.name}-{number}.yaml"
    title = f"# Trial {number} of the search {place.name}.\n"
    write(path, title + dumps(difference(wanted)))
    for line in changes(one, wanted):
        progress.say(line)
    progress.say(f"wrote {path.relative_to(root)}")
    run(Request(root, path), progress)
    if not digest:
        progress.say(f"trial {number} was a draft; its settings are made to the end here for the first time")
        return
    same = tree_hash(root / model) == digest
    if wanted.prune.timed and not same:
        progress.say(f"{model} hangs on times that were measured anew, so it need not be the model of trial {number}")
        return
    if not same:
        raise EnvironmentFault(
            f"{model} is another model than that of trial {number}: code, packages, machine or a round's times differ"
        )
    progress.say(f"{model} is byte-identical to the model of trial {number}")


def changes(before: Recipe, after: Recipe) -> list[str]:
    """A line for each setting that differs; how trials were searched aside."""
    old, new = (one.model_dump(mode="json") for one in (before, after))
    lines = []
    for section, values in new.items():
        if section != "search" and isinstance(values, dict):
            moved = [key for key in values if values[key] != old[section][key]]
            lines += [f"{section}.{key}: {json.dumps(old[section][key])} → {json.dumps(values[key])}" for key in moved]
    return lines


def _found(place: Place, recipe: Recipe, trial: str) -> tuple[int, Recipe, str, str]:
    """The number of a trial, the recipe that makes its model, where the model lies then, and its hash.

    Of a draft: its settings made to the end, and no hash.
    """
    from flows.search.figures import REACHED, VALUES
    from flows.search.results import best, figures
    from flows.search.storage import DONE, opened

    if not place.recipe.is_file():
        raise UserError(f"there is no search {place.name} here; begin it with: secateur search")
    study = opened(place, recipe)
    made = [one for one in study.get_trials(deepcopy=False, states=DONE) if REACHED in one.user_attrs]
    if trial == BEST:
        found = best(made, recipe)
        if found is None:
            raise UserError(
                f"no trial of {place.name} that was made to its end keeps the budget's quality; apply one by its number"
            )
    else:
        numbers = {str(one.number): one for one in made}
        if trial not in numbers:
            raise UserError(f"--apply {trial}: {place.name} has the trials {', '.join(numbers) or '(none)'}, and best")
        found = numbers[trial]
    settings = changed(recipe, {**found.user_attrs[VALUES], "search.space": None})
    worth, level = figures(found), recipe.search.levels[found.user_attrs[REACHED]]
    if not level and settings.prune.drafted:
        return found.number, settings, worth["model"], ""
    return found.number, at_level(settings, level), worth["model"], worth["sha256"]
