"""Work as a task of the flow's run, which Prefect does again after a fault that may pass."""

from collections.abc import Callable, Collection
from typing import Any, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from tasks.core.errors import PassingFault

T = TypeVar("T")


def as_task(
    work: Callable[[], T],
    name: str,
    retries: int,
    wait: float,
    say: Callable[[str], None],
    run_name: str | None = None,
    tags: Collection[str] = (),
) -> T:
    """What `work` returns.

    Args:
        work: Takes no arguments; may return a Prefect state, which is then the run's.
        name: Of the task.
        retries: How often it is done again.
        wait: Seconds before each.
        say: Told of each fault.
        run_name: Of the task's run; None is `name`.
        tags: Of the run; Prefect's limits count them.
    """

    def passes(_: Any, __: TaskRun, state: State[Any]) -> bool:
        error = state.result(raise_on_failure=False)
        if isinstance(error, PassingFault):
            say(f"{error}; once more in {wait:g} s")
        return isinstance(error, PassingFault)

    @task(
        name=name,
        task_run_name=run_name or name,
        tags=tags,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=retries,
        retry_delay_seconds=wait,
        retry_condition_fn=passes,
    )
    def run() -> T:
        return work()

    return run()
