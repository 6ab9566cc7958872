"""The types of task by the name that recipes call them; the type of prepared data, and of a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.core.files import read_json
from tasks.text.classification import Classification
from tasks.text.generation import Generation
from tasks.text.multilabel import MultiLabel
from tasks.text.qa import QuestionAnswering
from tasks.text.task import Head, TaskType

TASKS: dict[str, type[TaskType]] = {
    "classification": Classification,
    "multilabel": MultiLabel,
    "qa": QuestionAnswering,
    "generation": Generation,
}
HEADS: dict[str, Head] = {task.head.auto: task.head for task in TASKS.values()}
"""By the class of transformers that builds them."""


def read_task(prepared: Path) -> TaskType:
    """The task that data were prepared for."""
    facts = read_json(prepared / "data.json")
    return TASKS[facts["task"]["type"]].of(facts)


def task_of(config: Mapping[str, Any]) -> TaskType | None:
    """The task of a model with this config.json; None: none that is known."""
    return next(filter(None, (task.of_config(config) for task in TASKS.values())), None)
