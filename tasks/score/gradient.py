"""Gradient: how steep the loss is in a unit's weights, mean over batches of sum |dL/dw|."""

from tasks.score.criterion import by_gradient

GRADIENT = by_gradient(lambda w, g: g.abs())  # noqa: ARG005
