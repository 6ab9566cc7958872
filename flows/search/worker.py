"""A process that does trials of a search until none is waiting.

python -m flows.search.worker WORKSPACE NAME NUMBER DEADLINE STAGES COMMAND...
"""

import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from flows.child import die_with_parent, environment
from flows.process import PRELOAD, Workers
from flows.quiet import quiet
from flows.search.place import Place
from flows.workspace import identity
from tasks.core.errors import EnvironmentFault, PassingFault, UserError
from tasks.recipe.load import read
from tasks.recipe.schema import Recipe

STAGES = "flows.search.stages"
ERROR = "error"
"""File in a worker's directory: what it ended of."""
OVERTAKEN = ("Cannot tell a", "Should not reach")
"""How Optuna's words begin where the end of a trial is told that another process has ended."""


def work(
    place: Place, recipe: Recipe, name: str, own: str, deadline: float, stages: str, command: Sequence[str]
) -> None:
    """Takes one trial after another.

    Args:
        place: The search's.
        recipe: The one that trials are changes of.
        name: Of the worker, among those of this workspace.
        own: Who it is, as its trials name it; see `requeue`.
        deadline: Unix time after which no trial is begun.
        stages: The module whose `run` does a stage's work.
        command: What goes on after a failure.
    """
    import optuna
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState

    from flows.search.sampler import NoTicket
    from flows.search.storage import WORKER, Again, opened
    from flows.search.store import NotTheirs
    from flows.search.trial import trying

    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    study = opened(place, recipe)
    again = Again(recipe.search.retries)
    preload = (*PRELOAD, STAGES) if stages == STAGES else ()
    with Workers(place.worker(name), recipe, command, stages, preload) as workers:
        objective = trying(place, recipe, own, lambda job: workers.run(job, "gpu", lambda _: None))
        while time.time() < deadline:
            if not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                return
            try:
                study.optimize(objective, n_trials=1)
            except NoTicket:
                return
            except NotTheirs as fault:
                raise fault.mistake from None
            except PassingFault:
                failed = [one for one in study.get_trials(deepcopy=False) if one.user_attrs.get(WORKER) == own][-1]
                if not again.may(failed):
                    raise
                again(study, failed)
            except UpdateFinishedTrialError:
                pass  # it gave no sign of life for too long, and is another worker's now
            except (ValueError, AssertionError) as error:
                if not str(error).startswith(OVERTAKEN):
                    raise


def main() -> None:
    """The process; what it ends of is written where the one that started it looks."""
    die_with_parent(os.getppid())
    workspace, name, number, deadline, stages, *command = sys.argv[1:]
    place = Place(Path(workspace), name)
    quiet(place.root)
    from flows.search.storage import answering

    recipe = read(place.recipe)
    os.environ.update(environment(recipe))
    error = place.worker(number) / ERROR
    error.unlink(missing_ok=True)
    try:
        with answering(recipe):
            work(place, recipe, number, f"{identity(place.root)}:{os.getpid()}", float(deadline), stages, command)
    except (UserError, EnvironmentFault) as fault:
        error.write_text(f"{type(fault).__name__}\n{fault}", encoding="utf-8")
        sys.exit(1)


if __name__ == "__main__":
    main()
