"""`secateur solve`: a recipe for another budget from a finished search, by its scores, without a new training."""

from collections.abc import Sequence
from pathlib import Path

from flows.process import PRELOAD, Workers
from flows.progress import Progress
from flows.search.apply import changes
from flows.search.figures import VALUES, Figures
from flows.search.level import STUDENT, Bench
from flows.search.place import held
from flows.search.results import best, finished, knee
from flows.search.run import begun
from flows.search.storage import DONE, opened
from flows.search.worker import STAGES
from flows.workspace import write
from tasks.allocate.times import BATCH_1
from tasks.core.errors import UserError
from tasks.recipe.load import changed, difference
from tasks.recipe.schema import Recipe
from tasks.recipe.yaml12 import dumps

TRIES = 5
"""Cuts that are measured until one is fast enough."""
SAFETY = 0.97
"""The share of the time that the next try has of what the last one suggests."""
LATENCY = "latency"


def solve(
    root: Path,
    recipe: Path | None,
    overrides: Sequence[str],
    name: str | None,
    cost: str,
    wanted: float,
    progress: Progress,
    stages: str = STAGES,
) -> None:
    """Writes params/NAME-COST.yaml: the least loss within the budget, with what the search found best otherwise.

    The scores are those of the search; what each group loses is measured on the dense model, the multiple-choice
    knapsack of `tasks/allocate/solve.py` shares out what goes. What is to be so fast is solved by the table of times,
    cut in one shot and measured, and solved for less time where it is not.

    Args:
        root: The workspace.
        recipe: The recipe that was searched; None is the quickstart.
        overrides: The settings it was searched with.
        name: Of the search; None: the recipe's.
        cost: latency, flops or parameters.
        wanted: How many times as fast, or the share of the dense model's cost that may stay.
        progress: Where to say how it goes.
        stages: The module whose `run` does a stage's work.

    Raises:
        UserError: The search has no trial yet, it is one of students, or nothing that can go reaches the budget.
    """
    one, place = begun(root, recipe, overrides, name)
    if one.search.model == STUDENT:
        raise UserError(f"solve shares out what is pruned; search.model is {one.search.model}")
    with held(place):
        study = opened(place, one)
        trials = study.get_trials(deepcopy=False, states=DONE)
        made = finished(trials, one)
        chosen = best(trials, one) or knee(made, one)
        if chosen is None:
            raise UserError(f"no trial of the search {place.name} is finished; go on with: secateur search")
        like = changed(one, {**chosen.user_attrs[VALUES], "search.space": None})
        command = ["secateur", "solve", *([str(recipe)] if recipe else [])]
        preload = (*PRELOAD, STAGES) if stages == STAGES else ()
        with Workers(place.worker("solve"), one, command, stages, preload) as workers:
            bench = Bench(root, place.home / "solve", place.shared, lambda job: workers.run(job, "gpu", lambda _: None))
            solved, found = _tried(bench, like, cost, wanted, progress)
    path = root / "params" / f"{place.name}-{cost}-{wanted:g}.yaml"
    write(path, f"# {cost} {wanted:g}, from trial {chosen.number} of {place.name}.\n" + dumps(difference(solved)))
    for line in changes(one, solved):
        progress.say(line)
    lost = found["drop"]
    progress.say(
        f"wrote {path.relative_to(root)}; in one shot it loses {lost:.3f} against dense; run it to train it on"
    )


def goal(latency: str | None, flops: float | None, parameters: float | None) -> tuple[str, float]:
    """The one cost that is given, and what is wanted of it.

    Raises:
        UserError: None or several are given, or what is wanted cannot be.
    """
    given = {"latency": latency, "flops": flops, "parameters": parameters}
    known = {cost: one for cost, one in given.items() if one is not None}
    if len(known) != 1:
        raise UserError("give one of --latency 2x, --flops 0.5 and --parameters 0.5")
    ((cost, one),) = known.items()
    try:
        wanted = float(str(one).rstrip("xX×"))
    except ValueError:
        raise UserError(f"--latency {one}: must be how many times as fast, such as 2x") from None
    if not (wanted > 1 if cost == LATENCY else 0 < wanted < 1):
        raise UserError(f"--{cost} {one}: must be {'above 1x' if cost == LATENCY else 'between 0 and 1'}")
    return cost, wanted


def within(recipe: Recipe, cost: str, share: float) -> Recipe:
    """The recipe that removes in one round what leaves `share` of a cost, where that loses least."""
    return changed(recipe, {"prune.allocation": "solve", "prune.rounds": [{cost: round(1 - share, 6)}]})


def _tried(bench: Bench, like: Recipe, cost: str, wanted: float, progress: Progress) -> tuple[Recipe, Figures]:
    if cost != LATENCY:
        solved = within(like, cost, wanted)
        return solved, bench.reach(solved, "level0", 0, timed=False, exact=True)
    table = bench.times(within(like, LATENCY, 0.5))
    whole = table["dense"][BATCH_1] / table["whole"][BATCH_1]
    if wanted <= whole:
        raise UserError(f"as delivered, dense is {whole:.2f}× as fast already, with nothing removed; ask for more")
    share, speed = whole / wanted, 0.0
    for number in range(TRIES):
        solved = within(like, LATENCY, share)
        try:
            found = bench.reach(solved, f"level{number}", 0, timed=True, exact=True)
        except UserError as error:
            raise UserError(f"{wanted:g}× as fast is out of reach: {error}") from None
        speed = float(found["speedup_b1"] or 0.0)
        progress.say(f"{share:.0%} of dense’s time as delivered … {speed:.2f}× as fast, loses {found['drop']:.3f}")
        if speed >= wanted:
            return solved, found
        share *= SAFETY * speed / wanted
    raise UserError(f"{wanted:g}× as fast is out of reach: {speed:.2f}× after {TRIES} cuts; ask for less")
