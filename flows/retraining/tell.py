"""How a retraining ended, in one sentence, as a state of its flow run, and to those who want to know."""

from typing import Any

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.progress import Progress
from flows.request import Request
from flows.retraining.judge import Verdict
from flows.retraining.notify import notify
from tasks.recipe.load import resolve

SENTENCES = {
    "unchanged": "nothing changed",
    "promoted": "version {version} ({model}) is the champion now: {because}",
    "refused": "version {version} ({model}) is refused, the champion stays version {champion}: {because}",
    "champion": "the champion stays: {because}",
    "none": "the champion stays: {because}",
    "unfit": "nothing was trained, the new data are not fit: {because}",
    "failed": "it failed: {because}",
}
QUIET = ("unchanged",)
"""Of these only the log is told."""


def sentence(verdict: Verdict) -> str:
    """The verdict in words."""
    form = SENTENCES.get(verdict.outcome, "{outcome}: {because}")
    return form.format(**{**vars(verdict), "champion": verdict.champion or "none"})


def told(request: Request, verdict: Verdict, progress: Progress) -> State[Any]:
    """Tells how it ended; the state for Prefect."""
    recipe = resolve(request.recipe, request.overrides)
    text = sentence(verdict)

    def say(line: str) -> None:
        progress.say(line)
        get_run_logger().info(line)

    facts = {
        "recipe": recipe.name,
        "outcome": verdict.outcome,
        "version": verdict.version,
        "champion": verdict.champion,
        "record": verdict.record,
        "flow_run": str(flow_run.get_id()),
    }
    loud = verdict.outcome not in QUIET
    notify(f"retrain {recipe.name}", text, facts, recipe.retrain.notify if loud else (), say, webhook=loud)
    if verdict.outcome == "unfit":
        return Failed(name="Unfit", message=text)
    return Completed(name=verdict.outcome.capitalize(), message=text, data=verdict)
