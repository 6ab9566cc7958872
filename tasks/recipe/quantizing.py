"""What a recipe may say of quantization."""

from typing import Annotated, Literal

from pydantic import Field

from tasks.recipe.section import Count, Positive, Section

ACTIVATIONS_TOO, WEIGHT_ONLY = ("dynamic", "static"), ("int8_weights", "int4_weights")
"""Methods: the first for models that judge texts, the second for those that write them."""


class Mixed(Section):
    method: Literal["dynamic", "static"]
    max_divergence: Positive
    rows: Count


class Exits(Section):
    depths: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1, max_length=3)]
    method: Literal["fp32", "dynamic", "static"]
    max_changed: Annotated[float, Field(gt=0, le=1)]
    rows: Count


class Quantize(Section):
    models: tuple[Literal["dense", "pruned", "student"], ...]
    methods: Annotated[
        tuple[Literal["fp32", "dynamic", "static", "mixed", "exits", "int8_weights", "int4_weights"], ...],
        Field(min_length=1),
    ]
    calibration_rows: Count
    calibration: Literal["minmax", "entropy", "percentile"]
    verification_rows: Count
    mixed: Mixed
    exits: Exits
