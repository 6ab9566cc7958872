"""What a recipe may say. No defaults here: they stand, one commented line each, in `params/default.yaml`."""

from typing import Annotated, Literal

from pydantic import (
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticKnownError

from tasks.recipe.operating import Limits, Promote, Retrain
from tasks.recipe.pruning import Prune, Score
from tasks.recipe.quantizing import ACTIVATIONS_TOO, WEIGHT_ONLY, Quantize
from tasks.recipe.search import ROUNDS, Search, absent
from tasks.recipe.section import Count, Positive, Section, Share
from tasks.recipe.trainings import Dense, Distill, Finetune

METRICS: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy", "macro_f1", "matthews"),
    "multilabel": ("micro_f1", "macro_f1", "subset_accuracy"),
    "qa": ("f1", "exact_match"),
    "generation": ("log_likelihood",),
}
"""By type of task."""


_WINDOWED = ("qa", "generation")
"""Types of task whose rows are cut out of longer texts."""


class Task(Section):
    type: Literal["classification", "multilabel", "qa", "generation"]
    metric: str
    max_length: Annotated[int, Field(ge=4)]
    doc_stride: Count
    max_answer: Count
    no_answer: bool

    @field_validator("metric")
    @classmethod
    def _fits_the_type(cls, metric: str, info: ValidationInfo) -> str:
        allowed = METRICS.get(info.data.get("type", ""), (metric,))
        if metric not in allowed:
            raise PydanticKnownError("literal_error", {"expected": ", ".join(map(repr, allowed))})
        return metric

    @model_validator(mode="after")
    def _strides_on(self) -> "Task":
        if self.type in {"qa", "generation"} and self.doc_stride > self.max_length // 2:
            raise ValueError(
                f"doc_stride ({self.doc_stride}) must be at most half of max_length ({self.max_length}): "
                "windows would hardly move on"
            )
        return self


class Model(Section):
    source: Annotated[str, Field(min_length=1)]


class Data(Section):
    source: Annotated[str, Field(min_length=1)]
    text: str
    text_pair: str | None
    label: str
    labels: Annotated[tuple[str, ...], Field(min_length=2)] | None
    separator: Annotated[str, Field(min_length=1)]
    unit: Literal["line", "paragraph"]
    unescape: bool
    deduplicate: bool
    group: str | None
    validation: Share
    test: Share
    limit: Count | None
    max_chars: Count

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> "Data":
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must be below 1")
        return self


class Budget(Section):
    max_drop: Annotated[float, Field(ge=0, le=1)] | None
    speedup_b1: Positive | None
    speedup_b32: Positive | None
    max_parameters: Annotated[float, Field(gt=0, le=1)] | None
    max_flops: Annotated[float, Field(gt=0, le=1)] | None


class Evaluate(Section):
    batch_size: Count
    bootstrap: Count
    latency_rows: Count
    throughput_batches: Count
    repeats: Count
    prompts: Annotated[int, Field(ge=0)]
    prompt_tokens: Count
    new_tokens: Count
    temperature: Positive
    top_p: Annotated[float, Field(gt=0, le=1)]


class Recipe(Section):
    """One run: task, model, data, budget and the settings of every stage."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    threads: Annotated[int, Field(ge=0)]
    task: Task
    model: Model
    data: Data
    budget: Budget
    train: Dense
    score: Score
    prune: Prune
    finetune: Finetune
    distill: Distill
    quantize: Quantize
    evaluate: Evaluate
    promote: Promote
    retrain: Retrain
    limits: Limits
    search: Search

    @model_validator(mode="after")
    def _searches_what_there_is(self) -> "Recipe":
        given = self.model_dump(mode="json")
        for key in self.search.space or {}:
            section, _, rest = key.partition(".")
            if section not in self.search.sections or not rest:
                raise ValueError(
                    f"search.space: {key}; search.model is {self.search.model}, made by settings of "
                    f"{', '.join(self.search.sections)}"
                    + ("; search.quantized is false" if section == "quantize" else "")
                )
            # What a round names may be another thing with a setting on top: a search looks for it, a run need not.
            if wrong := absent(given, ROUNDS if key.startswith(f"{ROUNDS}.") else key):
                raise ValueError(f"search.space: {wrong}")
        return self

    @model_validator(mode="after")
    def _makes_what_it_searches(self) -> "Recipe":
        if self.search.space and self.search.model == "student" and not self.distill.enabled:
            raise ValueError("search.model is student, but distill.enabled is false")
        if self.search.space and self.search.quantized and self.search.model not in self.quantize.models:
            raise ValueError(f"search.quantized is true, but quantize.models does not name {self.search.model}")
        return self

    @model_validator(mode="after")
    def _student_exists(self) -> "Recipe":
        if "student" in self.quantize.models and not self.distill.enabled:
            raise ValueError("quantize.models names student, but distill.enabled is false")
        return self

    @model_validator(mode="after")
    def _fits_the_task(self) -> "Recipe":
        if self.task.type != "classification":
            trainings = {"train": self.train, "finetune": self.finetune, "distill": self.distill}
            trainings["score.training"] = self.score.training
            weighing = [name for name, training in trainings.items() if training.class_weights]
            if weighing:
                raise ValueError(f"{weighing[0]}.class_weights is true; only classification has one class per row")
            if "exits" in self.quantize.methods:
                raise ValueError(
                    "quantize.methods names exits; only classification has one class per row to be sure of"
                )
        least = self.prune.vocabulary_min_count
        if "vocabulary" in self.prune.kinds and least > 1 and self.task.type in _WINDOWED:
            raise ValueError(
                f"prune.vocabulary_min_count is {least}; rows of {self.task.type} are windows of the dense model's "
                "tokens, of which none can go: set it to 1"
            )
        if self.task.type == "qa":
            if self.data.labels is not None:
                raise ValueError("data.labels is set; qa has no classes")
            if self.data.text_pair is None:
                raise ValueError("data.text_pair is not set; for qa it is the column of the context, such as context")
            if self.data.unescape:
                raise ValueError("data.unescape is true; for qa it would move the answers in their contexts")
        return self

    @model_validator(mode="after")
    def _quantizes_what_it_makes(self) -> "Recipe":
        causal = self.task.type == "generation"
        allowed = ("fp32", *(WEIGHT_ONLY if causal else (*ACTIVATIONS_TOO, "mixed", "exits")))
        wrong = [method for method in self.quantize.methods if method not in allowed]
        if wrong and self.quantize.models:
            raise ValueError(
                f"quantize.methods names {', '.join(wrong)}; for {self.task.type} there are {', '.join(allowed)}: "
                "choose of them, or set quantize.models to []"
            )
        return self

    @model_validator(mode="after")
    def _has_early_weights(self) -> "Recipe":
        if self.prune.rewind and self.train.early is None:
            raise ValueError(
                "prune.rewind is true, but train.early is null; set it to the epoch to go back to, such as 0.1"
            )
        return self

    @model_validator(mode="after")
    def _scores_what_it_prunes(self) -> "Recipe":
        if self.score.criterion == "l0" and "weight" in self.prune.kinds:
            raise ValueError(
                "score.criterion is l0, but prune.kinds names weight; gates stand on units: leave weight out, "
                "or choose movement or magnitude"
            )
        return self

    @model_validator(mode="after")
    def _has_weights_to_move(self) -> "Recipe":
        amounts = [goal.kinds["weight"] for goal in self.prune.goals if "weight" in goal.kinds]
        if self.finetune.regrowth and (not amounts or any(amount.pattern for amount in amounts)):
            raise ValueError(
                f"finetune.regrowth is {self.finetune.regrowth:g}; "
                "it moves the zeros of single weights that have no pattern: "
                "name weight in prune.kinds, with a share, or set it to 0"
            )
        if self.finetune.gradual and (not amounts or any(amount.share is None for amount in amounts)):
            raise ValueError(
                "finetune.gradual is true; it removes a share of single weights: name weight in prune.kinds, "
                "with shares in prune.rounds, or set it to false"
            )
        if self.finetune.gradual and (self.finetune.regrowth or self.prune.unselected != "remove"):
            raise ValueError("finetune.gradual is true; then finetune.regrowth must be 0 and prune.unselected remove")
        return self

    @model_validator(mode="after")
    def _generates(self) -> "Recipe":
        if self.task.type != "generation":
            return self
        for name in ("labels", "text_pair"):
            if getattr(self.data, name) is not None:
                raise ValueError(f"data.{name} is set; generation has texts alone, in data.text")
        length = 1 + self.evaluate.prompt_tokens + self.evaluate.new_tokens
        if self.evaluate.prompts and length > self.task.max_length:
            raise ValueError(
                f"evaluate.prompt_tokens and evaluate.new_tokens, {length} with the token before them, must be at most "
                f"task.max_length ({self.task.max_length})"
            )
        return self
