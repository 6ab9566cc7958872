"""What a recipe may say of trainings: of the dense model, after pruning, of a student."""

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from tasks.recipe.section import Count, NotNegative, Positive, Section, Share

Layer = Annotated[int, Field(ge=0)]
LayerMap = Literal["uniform", "last", "learned"] | Annotated[tuple[tuple[Layer, Layer], ...], Field(min_length=1)]
"""Which layer of a student learns from which of its teacher; or pairs (of the student, of the teacher)."""


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
    quantize: bool

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
