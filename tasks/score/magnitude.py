"""Magnitude: the L2 norm of a unit's weights, sqrt(sum w^2) (Han et al., 2015; Li et al., 2017, for structures)."""

from tasks.score.criterion import Criterion

MAGNITUDE = Criterion(element=lambda w, g: w * w, final=lambda total: total.sqrt(), gradients=False)  # noqa: ARG005
