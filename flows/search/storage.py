"""The study: its storage, its tickets (a waiting trial for each that is to be done), and trials whose worker died."""

import contextlib
import copy
import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from flows.search.place import Place
from flows.search.sampler import sampler
from tasks.core.errors import EnvironmentFault, UserError
from tasks.recipe.load import difference
from tasks.recipe.schema import Recipe
from tasks.recipe.search import Objective

TICKET, WORKER, SPACE, ENDED = "ticket", "worker", "recipe", "ended"
DONE = (TrialState.COMPLETE, TrialState.PRUNED)
"""How a trial that counts has ended."""
FREE = ("storage", "heartbeat", "retries")
"""What may change when a search goes on."""
PATIENCE = 60  # seconds that SQLite waits while another process writes


@contextlib.contextmanager
def answering(recipe: Recipe) -> Iterator[None]:
    """Says in one sentence what a storage has to say that goes away in mid-search.

    Raises:
        EnvironmentFault: It does not answer.
    """
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        cause = str(error.__cause__ or error).strip().splitlines()
        where = make_url(recipe.search.storage or "sqlite://").render_as_string(hide_password=True)
        raise EnvironmentFault(
            f"search.storage: {where} does not answer ({cause[0] if cause else type(error).__name__}); when it does, "
            "the same command goes on"
        ) from error


def opened(place: Place, recipe: Recipe) -> Study:
    """The study of that name, made if it is not there, with the recipe it was begun with.

    Raises:
        UserError: The storage's URL is no good, or the study was begun with another recipe.
        EnvironmentFault: The storage does not answer.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = _study(place, recipe)
    said = facts(recipe)
    before = study.user_attrs.get(SPACE)
    if before is None:
        study.set_metric_names(list(recipe.search.objectives))
        study.set_user_attr(SPACE, said)
    elif before != said:
        moved = sorted(key for key in {*before, *said} if before.get(key) != said.get(key))
        words = "; ".join(f"{key} was {_short(before.get(key))}, is {_short(said.get(key))}" for key in moved)
        raise UserError(
            f"the search {place.name} was begun with another recipe: {words}; "
            "put that back, or begin another search with --name"
        )
    return study


def facts(recipe: Recipe) -> dict[str, Any]:
    """What a search is of: the recipe by setting, as far as it may not change."""
    said = difference(recipe)
    said["search"] = {key: value for key, value in said.get("search", {}).items() if key not in FREE}
    flat: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and (prefix == "search.space." or not prefix.startswith("search.space.")):
            for key, inner in value.items():
                walk(f"{prefix}{key}.", inner)
        else:
            flat[prefix[:-1]] = value

    walk("", said)
    return dict(json.loads(json.dumps(flat)))


def issue(study: Study, trials: int, first: Mapping[str, Any] = {}) -> None:
    """Makes tickets until so many trials are done, at work or waiting; tickets above that are withdrawn.

    Args:
        study: Whose.
        trials: How many.
        first: Parameters that the study's first trial is given.
    """
    known = [trial for trial in study.get_trials(deepcopy=False) if TICKET in trial.user_attrs]
    waiting = [trial for trial in known if trial.state == TrialState.WAITING]
    taken = sum(trial.state in (*DONE, TrialState.RUNNING) for trial in known)
    for number in range(taken + len(waiting), trials):
        study.enqueue_trial({} if known or number else dict(first), user_attrs={TICKET: True})
    fresh = [trial for trial in waiting if not trial.params]
    for trial in fresh[max(0, trials - taken) :]:
        with contextlib.suppress(UpdateFinishedTrialError):  # a worker was quicker to take it, and to end it
            study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)  # `tell` knows no waiting trial


class Again(RetryHeartbeatStaleTrialCallback):
    """Puts a failed trial back, with its settings, its levels and nothing that its worker said of how it ended."""

    def __init__(self, retries: int) -> None:
        """At most so many times."""
        super().__init__(max_retry=retries)
        self.retries = retries

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """What Optuna calls for a trial that gave no sign of life for too long."""
        fresh = copy.copy(trial)
        fresh.user_attrs = {key: value for key, value in trial.user_attrs.items() if key not in (WORKER, ENDED)}
        super().__call__(study, fresh)

    def may(self, trial: FrozenTrial) -> bool:
        """Whether it was put back less often than that."""
        return len(self.retry_history(trial)) < self.retries


def requeue(study: Study, dead: str, retries: int) -> int:
    """Gives the trials that a dead worker had to another one, as a stale heartbeat does, but at once; says how many.

    Args:
        study: Whose trials.
        dead: The worker, as its trials name it: `workspace:process`; `workspace:` for all of a workspace.
        retries: How often a trial is taken up again.
    """
    ended = 0
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        worker = trial.user_attrs.get(WORKER, "")
        if worker == dead or (dead.endswith(":") and worker.startswith(dead)):
            ended += _given_up(study, trial, retries)
    return ended


def requeue_silent(study: Study, heartbeat: int, retries: int) -> None:
    """The same for trials that were taken and never gave a sign of life, which no heartbeat tells of."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        begun = trial.datetime_start
        late = begun is not None and datetime.now() - begun > timedelta(seconds=2 * heartbeat)
        if late and WORKER not in trial.user_attrs:
            _given_up(study, trial, retries)


def _given_up(study: Study, trial: FrozenTrial, retries: int) -> bool:
    """Ends a trial in its worker's place and puts it back; False if another process was quicker."""
    try:
        study.tell(trial.number, state=TrialState.FAIL)
    except (ValueError, UpdateFinishedTrialError):
        return False
    Again(retries)(study, trial)
    return True


def first_number(trial: FrozenTrial) -> int:
    """The number a trial had when it was first taken up: its directory's."""
    found = RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)
    return trial.number if found is None else int(found)


def directions(objectives: tuple[Objective, ...]) -> list[StudyDirection]:
    """Quality is to be large, costs are to be small."""
    return [StudyDirection.MAXIMIZE if name == "quality" else StudyDirection.MINIMIZE for name in objectives]


def _study(place: Place, recipe: Recipe) -> Study:
    search = recipe.search
    url = search.storage or f"sqlite:///{place.home / 'study.db'}"
    try:
        shown = make_url(url).render_as_string(hide_password=True)
        if make_url(url).password:
            raise UserError(f"search.storage: {shown} holds a password; put it in PGPASSWORD or ~/.pgpass")
        storage = RDBStorage(
            url,
            engine_kwargs={"connect_args": {"timeout": PATIENCE}} if url.startswith("sqlite") else {},
            heartbeat_interval=search.heartbeat,
            heartbeat_stale_trial_callback=Again(search.retries),
        )
        if url.startswith("sqlite"):
            _one_at_a_time(storage.engine)
        return optuna.create_study(
            storage=storage,
            sampler=sampler(recipe),
            study_name=place.name,
            directions=directions(search.objectives),
            load_if_exists=True,
        )
    except (ArgumentError, NoSuchModuleError) as error:
        raise UserError(
            "search.storage is no URL of a database; give postgresql://USER@HOST/DATABASE, or null for SQLite"
        ) from error
    except ImportError as error:
        raise UserError(f"search.storage: {shown} needs a driver: pip install 'secateur[postgres]'") from error
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", error)).strip().splitlines()
        raise EnvironmentFault(
            f"search.storage: {shown} does not answer ({cause[0] if cause else type(error).__name__}); "
            "start it, or set search.storage to null for SQLite"
        ) from error


def _one_at_a_time(engine: Engine) -> None:
    """Has SQLite lock the database as a transaction begins.

    It knows no SELECT … FOR UPDATE: two workers that look at a waiting trial before either takes it would both have it.
    """

    def connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver begins no transaction of its own

    def begins(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begins)
    engine.dispose()  # connections from before are not like this


def _short(value: Any) -> str:
    text = "not set" if value is None else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
