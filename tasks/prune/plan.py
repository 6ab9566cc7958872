"""The plan: which units of which layer stay, for a ratio of the dense model's units."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from tasks.allocate import ranked, uniform
from tasks.allocate.units import Units, normalized


@dataclass(frozen=True)
class Choice:
    """Units that stay, by layer, and the score below which they do not."""

    kept: list[list[int]]
    threshold: float | None
    """Lowest score of a block that stays of its own merit, where one threshold serves all layers."""


def choose(scores: Sequence[Tensor], keep: int, align: int, scope: str, normalize: bool) -> Choice:
    """Keeps the most important units of one kind.

    Units are taken in blocks of `align` from each layer's most important down; a block counts what its units score on
    average. Every layer keeps its first block, so none loses its last head.

    Args:
        scores: importance per unit, one vector per layer.
        keep: units that stay in all layers together, rounded to blocks.
        scope: `global` compares the blocks of all layers; `layer` keeps the same share in each.
        normalize: with `global`, each layer's scores are divided by their L2 norm first (Molchanov et al., 2017).
    """
    groups = {number: Units(layer.double().numpy(), align=align) for number, layer in enumerate(scores)}
    if scope == "layer":
        found = uniform.by_ratio(groups, 1 - keep / sum(len(layer) for layer in scores))
    else:
        found = ranked.by_count(normalized(groups) if normalize else groups, keep)
    return Choice([units.best(found.kept[number]) for number, units in groups.items()], found.threshold)


def targets(dense: Mapping[str, Sequence[int]], ratios: Mapping[str, float]) -> dict[str, int]:
    """Units of each kind that stay of the dense model's, for the share of them that goes."""
    return {kind: round(sum(counts) * (1 - ratios.get(kind, 0.0))) for kind, counts in dense.items()}
