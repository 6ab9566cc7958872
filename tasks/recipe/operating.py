"""What a recipe may say of operation: when a model is promoted, what new data must be like, what a stage may take."""

from typing import Annotated, Literal

from pydantic import Field

from tasks.recipe.section import Count, NotNegative, Positive, Section

Fraction = Annotated[float, Field(ge=0, le=1)]
Stage = Literal["prepare", "train", "table", "score", "prune", "finetune", "evaluate", "distill", "quantize", "report"]


class Promote(Section):
    margin: Fraction
    earlier_margin: Fraction | None
    max_latency_ms: Positive | None
    max_slowdown: Positive | None
    max_bytes: Count | None
    max_growth: Positive | None
    key: Annotated[str, Field(min_length=1)] | None


class Retrain(Section):
    min_rows: NotNegative | None
    significance: Annotated[float, Field(gt=0, lt=1)]
    max_length_shift: Fraction | None
    max_class_shift: Fraction | None
    max_unknown: Fraction | None
    max_relabelled: Fraction | None
    notify: tuple[Annotated[str, Field(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")], ...]


class StageLimits(Section):
    """Of one stage, where they differ from those of all."""

    minutes: Positive | None = None
    memory_gb: Positive | None = None
    retries: Annotated[int, Field(ge=0)] | None = None


class Limits(Section):
    minutes: Positive | None
    memory_gb: Positive | None
    retries: Annotated[int, Field(ge=0)]
    wait: NotNegative
    disk_gb: Positive | None
    stages: dict[Stage, StageLimits] | None

    def of(self, stage: str) -> StageLimits:
        """The limits of a stage (`prune@r1`): its own where it has some, otherwise those of all."""
        group = stage.partition("@")[0]
        own = next((limits for name, limits in (self.stages or {}).items() if name == group), StageLimits())
        return StageLimits(
            **{
                name: getattr(self, name) if getattr(own, name) is None else getattr(own, name)
                for name in StageLimits.model_fields
            }
        )
