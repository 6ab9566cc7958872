"""What a recipe may say of a search: which settings vary in which ranges, and what makes a result good."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidatorFunctionWrapHandler, field_validator, model_validator

from tasks.recipe.section import Count, Section

Objective = Literal["quality", "latency", "flops", "size"]
SECTIONS = {"pruned": ("train", "score", "prune", "finetune"), "student": ("train", "distill")}
"""What makes a trial's model."""
ROUNDS = "prune.rounds"
FORMS = "{low: 0.1, high: 0.5}, with log: true or step: 0.1 where wanted, or {choices: [a, b]}"


def absent(given: Mapping[str, Any], key: str) -> str:
    """What a recipe has not of a dotted key, or nothing."""
    at: Any = given
    for part in key.split("."):
        there = list(map(str, range(len(at)))) if isinstance(at, list) else list(at) if at else []
        if part not in there:
            return f"{key}: there is no {part}, but {', '.join(there) or 'nothing'}"
        at = at[int(part)] if isinstance(at, list) else at[part]
        at = at if isinstance(at, dict | list) else {}
    return ""


def trains(key: str) -> bool:
    """Whether a setting has no say in a cut, but in what comes after."""
    return key.partition(".")[0] in ("finetune", "quantize") and key != "finetune.gradual"


class Range(Section):
    """Numbers from `low` to `high`, both included; whole ones if both ends are."""

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    @property
    def whole(self) -> bool:
        """Whether it holds whole numbers only."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @model_validator(mode="after")
    def _holds_something(self) -> "Range":
        if self.low >= self.high:
            raise ValueError(f"the range from {self.low:g} to {self.high:g} is empty; low must be below high")
        if self.log and self.low <= 0:
            raise ValueError(f"a log scale from {self.low:g} goes through zero; low must be above 0, or log false")
        if self.step is not None:
            if self.log:
                raise ValueError("a log scale has no step; leave one of them out")
            if not 0 < self.step <= self.high - self.low:
                raise ValueError(f"step is {self.step:g}; must be above 0 and at most {self.high - self.low:g}")
            if self.whole and not isinstance(self.step, int):
                raise ValueError(f"step is {self.step:g}; of whole numbers it is a whole number")
        return self


class Choices(Section):
    """One of several values of any form."""

    choices: tuple[Any, ...]

    @model_validator(mode="after")
    def _differ(self) -> "Choices":
        if len(self.choices) < 2:
            raise ValueError("there is nothing to choose from; give 2 choices or more")
        if any(value in self.choices[:place] for place, value in enumerate(self.choices)):
            raise ValueError("a choice stands twice")
        return self


class Search(Section):
    model: Literal["pruned", "student"]
    quantized: bool
    space: dict[str, Range | Choices] | None
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1)]
    sampler: Literal["tpe", "random", "qmc", "nsgaii", "gp"]
    levels: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=1)]
    candidates: Count
    reduction: Annotated[float, Field(ge=1)]
    draft_rows: Count | None
    storage: str | None
    heartbeat: Count
    retries: Annotated[int, Field(ge=0)]

    @field_validator("space", mode="wrap")
    @classmethod
    def _one_message_each(cls, given: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        """Pydantic would name every branch of every entry; one sentence says it."""
        if not isinstance(given, dict):
            return handler(given)
        found, wrong = {}, []
        for key, entry in given.items():
            try:
                found[key] = _entry(entry)
            except ValueError as error:
                wrong.append(f"{key}: {_said(error)}")
        if wrong:
            raise ValueError("; ".join(wrong))
        if not found:
            raise ValueError("names no setting, such as {score.criterion: {choices: [taylor, fisher]}}")
        return found

    @property
    def sections(self) -> tuple[str, ...]:
        """Whose settings make a trial."""
        return (*SECTIONS[self.model], *(["quantize"] if self.quantized else []))

    @model_validator(mode="after")
    def _trains_students(self) -> "Search":
        if self.model == "student" and not self.levels[0]:
            raise ValueError("levels begin with 0, a cut in one shot; a student is trained: begin with 0.25, say")
        return self

    @field_validator("objectives")
    @classmethod
    def _once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError(f"{list(names)}; each stands once")
        return names

    @field_validator("levels")
    @classmethod
    def _ascend(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if list(levels) != sorted(set(levels)):
            raise ValueError(f"{list(levels)}; must ascend, such as [0, 0.25, 1]")
        return levels


def _entry(given: Any) -> Range | Choices:
    if isinstance(given, Range | Choices):
        return given
    keys = set(given) if isinstance(given, dict) else set()
    if keys == {"choices"} and isinstance(given["choices"], list | tuple):
        return Choices(choices=tuple(given["choices"]))
    numbers = [given.get(key) for key in ("low", "high")] if keys else []
    if not {"low", "high"} <= keys <= {"low", "high", "log", "step"} or not all(map(_is_number, numbers)):
        raise ValueError(f"must be {FORMS}")
    if not isinstance(given.get("log", False), bool) or not (given.get("step") is None or _is_number(given["step"])):
        raise ValueError(f"must be {FORMS}")
    return Range(**given)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _said(error: ValueError) -> str:
    """The sentence of a mistake, without what pydantic puts around it."""
    found = getattr(error, "errors", None)
    if found is None:
        return str(error)
    first = found()[0]
    return str(first.get("ctx", {}).get("error", first["msg"]))
