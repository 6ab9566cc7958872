"""What a recipe may say. No defaults here: they stand, one commented line each, in `params/default.yaml`."""

from dataclasses import replace
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticKnownError

from tasks.recipe.cubic import cubic
from tasks.recipe.goal import Amount, Goal

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
KindName = Literal["head", "kv_group", "neuron", "attention", "ffn", "layer", "width", "weight", "vocabulary"]
CostName = Literal["parameters", "flops"]
GoalName = Literal[KindName, CostName]
CriterionName = Literal[
    "random", "magnitude", "magnitude_l1", "gradient", "taylor", "taylor_absolute", "fisher", "activation", "wanda",
    "obs", "obs_fisher",
]  # fmt: skip
Layer = Annotated[int, Field(ge=0)]
LayerMap = Literal["uniform", "last", "learned"] | Annotated[tuple[tuple[Layer, Layer], ...], Field(min_length=1)]
"""Which layer of a student learns from which of its teacher; or pairs (of the student, of the teacher)."""


METRICS: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy", "macro_f1", "matthews"),
    "multilabel": ("micro_f1", "macro_f1", "subset_accuracy"),
    "qa": ("f1", "exact_match"),
    "generation": ("log_likelihood",),
}
"""By type of task."""


_WINDOWED = ("qa", "generation")
"""Types of task whose rows are cut out of longer texts."""


class Section(BaseModel):
    """Frozen; an unknown key is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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


class Training(Section):
    epochs: Positive
    batch_size: Count
    accumulate: Count
    learning_rate: Positive
    weight_decay: NotNegative
    warmup: Share
    max_grad_norm: Positive
    precision: Literal["auto", "bf16", "fp32"]
    patience: Count | None
    class_weights: bool
    freeze_embeddings: bool
    dropout: Share | None
    checkpoint_steps: Count
    processes: Annotated[int, Field(ge=0)]
    l1: NotNegative
    l2: NotNegative
    group_lasso: NotNegative

    @model_validator(mode="after")
    def _divides(self) -> "Training":
        if self.batch_size % (self.accumulate * max(1, self.processes)):
            raise ValueError("batch_size must be a multiple of accumulate times processes")
        return self


class Dense(Training):
    early: NotNegative | None

    @model_validator(mode="after")
    def _comes_early(self) -> "Dense":
        if self.early is not None and self.early > self.epochs:
            raise ValueError(f"early ({self.early:g}) must be at most epochs ({self.epochs:g})")
        return self


class Recovery(Training):
    """Training with the dense model as teacher."""

    temperature: Positive
    alpha: Annotated[float, Field(ge=0, le=1)]
    hidden: NotNegative
    attention: NotNegative
    layer_map: LayerMap

    @field_validator("layer_map", mode="wrap")
    @classmethod
    def _maps(cls, given: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        pairs = isinstance(given, list) and all(isinstance(pair, list) for pair in given)
        try:
            return handler(tuple(map(tuple, given)) if pairs else given)
        except ValidationError:
            raise ValueError(
                f"{given!r}; must be one of uniform, last, learned, or pairs of layers such as [[0, 1], [1, 3]]"
            ) from None


class Finetune(Recovery):
    regrowth: Annotated[float, Field(ge=0, le=1)]
    gradual: bool


class Distill(Recovery):
    enabled: bool
    source: Annotated[str, Field(min_length=1)] | None
    layers: Annotated[tuple[Layer, ...], Field(min_length=1)] | None

    @field_validator("layers")
    @classmethod
    def _ascend(cls, layers: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if layers is not None and list(layers) != sorted(set(layers)):
            raise ValueError(f"{list(layers)}; must ascend, each layer once, such as {sorted(set(layers))}")
        return layers


class Score(Section):
    criterion: Literal[CriterionName, "movement", "l0"]
    compare: tuple[CriterionName, ...]
    rows: Count
    batch_size: Count
    penalty: NotNegative
    target: Annotated[float, Field(gt=0, lt=1)] | None
    gate_rate: Positive
    training: Training


class Number(Section):
    count: Count


class Below(Section):
    threshold: float


class Pattern(Section):
    pattern: Annotated[str, Field(pattern=r"^[1-9]\d*:[1-9]\d*$")]


class Cubic(Section):
    cubic: Share
    count: Count


Removal = Share | Number | Below | Pattern | bool
"""`true` is for the vocabulary alone."""


class Prune(Section):
    kinds: Annotated[tuple[KindName, ...], Field(min_length=1)]
    rounds: Annotated[tuple[Share | dict[GoalName, Removal], ...], Field(min_length=1)] | Cubic
    allocation: Literal["uniform", "global", "sensitivity", "solve"]
    normalize: bool
    align: Count
    reconstruct: bool
    unselected: Literal["remove", "random", "adaptive"]
    rewind: bool
    rows: Count
    batch_size: Count
    damping: Positive
    vocabulary_min_count: Count
    vocabulary_size: Count | None

    @property
    def units(self) -> tuple[KindName, ...]:
        """The kinds that have scores: all but the vocabulary."""
        return tuple(kind for kind in self.kinds if kind != "vocabulary")

    @property
    def goals(self) -> tuple[Goal, ...]:
        """What is gone after each round."""
        if isinstance(self.rounds, Cubic):
            shares = cubic(self.rounds.cubic, self.rounds.count)
            goals = tuple(self._goal(round(share, 9)) for share in shares)
        else:
            goals = tuple(self._goal(entry) for entry in self.rounds)
        if "vocabulary" in self.kinds and not any(goal.vocabulary for goal in goals):
            return (replace(goals[0], vocabulary=True), *goals[1:])
        return goals

    def _goal(self, entry: float | dict[GoalName, Removal]) -> Goal:
        if isinstance(entry, float):
            if not self.units:
                raise ValueError(f"a round is {entry}; {_VOCABULARY}, such as rounds: [{{vocabulary: true}}]")
            return Goal({kind: Amount(share=entry) for kind in self.units})
        tokens = "vocabulary" in entry
        if tokens and "vocabulary" not in self.kinds:
            raise ValueError("rounds names vocabulary, kinds does not; name it in both")
        if tokens and entry["vocabulary"] is not True:
            raise ValueError(_VOCABULARY)
        rest = {name: removal for name, removal in entry.items() if name != "vocabulary"}
        for cost in get_args(CostName):
            if cost in rest:
                share = rest[cost]
                if len(rest) > 1 or not isinstance(share, float):
                    raise ValueError(f"a round that names {cost} names nothing else, and a share of it")
                if not self.units:
                    raise ValueError(f"a round names {cost}; {_VOCABULARY}, or name other kinds that are to reach it")
                return Goal(cost=cost, share=share, vocabulary=tokens)
        return Goal({kind: _amount(kind, rest[kind]) for kind in self.units if kind in rest}, vocabulary=tokens)

    @model_validator(mode="after")
    def _only_removes(self) -> "Prune":
        goals = self.goals
        for kind in self.units:
            shares = [goal.kinds[kind].share for goal in goals if kind in goal.kinds]
            known = [share for share in shares if share is not None]
            if known != sorted(known):
                raise ValueError(f"rounds must not fall: {kind} goes through {known}")
        return self

    @model_validator(mode="after")
    def _weights_stand_alone(self) -> "Prune":
        if "weight" in self.kinds and any(goal.cost for goal in self.goals):
            raise ValueError("kinds: a zero costs as much as any weight; give weight a share of its own")
        return self


_VOCABULARY = "vocabulary goes by what the data use, not by a share: write vocabulary: true in the round it goes in"


def _amount(kind: str, removal: Removal) -> Amount:
    if isinstance(removal, bool):
        raise ValueError(f"true is for the vocabulary; of {kind} give a share, {{count: …}} or {{threshold: …}}")
    if isinstance(removal, Number):
        return Amount(count=removal.count)
    if isinstance(removal, Below):
        return Amount(threshold=removal.threshold)
    if isinstance(removal, float):
        return Amount(share=removal)
    if kind != "weight":
        raise ValueError(f"a pattern is for single weights, not for {kind}")
    kept, every = map(int, removal.pattern.split(":"))
    if kept > every:
        raise ValueError(f"pattern {removal.pattern} keeps more than there are; 2:4 keeps two of four")
    return Amount(pattern=(kept, every))


class Quantize(Section):
    models: tuple[Literal["dense", "pruned", "student"], ...]
    methods: Annotated[tuple[Literal["fp32", "dynamic", "static"], ...], Field(min_length=1)]
    calibration_rows: Count
    calibration: Literal["minmax", "entropy", "percentile"]


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
        if self.quantize.models:
            raise ValueError("quantize.models is not empty; graphs of causal models are not fused: set it to []")
        length = 1 + self.evaluate.prompt_tokens + self.evaluate.new_tokens
        if self.evaluate.prompts and length > self.task.max_length:
            raise ValueError(
                f"evaluate.prompt_tokens and evaluate.new_tokens, {length} with the token before them, must be at most "
                f"task.max_length ({self.task.max_length})"
            )
        return self
