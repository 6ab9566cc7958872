"""The plan: which units of which layer stay, for a ratio of the dense model's units."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Choice:
    """Units that stay, by layer, and the score below which they do not."""

    kept: list[list[int]]
    threshold: float | None
    """Lowest score of a block that stays, where one threshold serves all layers."""


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
    total = sum(len(layer) for layer in scores)
    if scope == "layer":
        counts = [_rounded(len(layer) * keep / total, align, len(layer)) for layer in scores]
        kept = [_top(layer, count) for layer, count in zip(scores, counts, strict=True)]
        return Choice(kept, None)
    blocks = []
    for number, layer in enumerate(scores):
        scale = layer.norm().clamp_min(torch.finfo(layer.dtype).tiny) if normalize else 1.0
        ordered = (layer / scale).sort(descending=True, stable=True).values
        for start in range(0, len(ordered), align):
            part = ordered[start : start + align]
            blocks.append((start > 0, -float(part.mean()), number, start, len(part)))
    counts = [0] * len(scores)
    threshold = 0.0
    for _, value, number, start, size in sorted(blocks):
        if start and sum(counts) + size / 2 > keep:
            break
        counts[number] += size
        threshold = -value
    return Choice([_top(layer, count) for layer, count in zip(scores, counts, strict=True)], threshold)


def targets(dense: Mapping[str, Sequence[int]], ratios: Mapping[str, float]) -> dict[str, int]:
    """Units of each kind that stay of the dense model's, for the share of them that goes."""
    return {kind: round(sum(counts) * (1 - ratios.get(kind, 0.0))) for kind, counts in dense.items()}


def _rounded(count: float, align: int, limit: int) -> int:
    return min(limit, max(align, align * round(count / align)))


def _top(scores: Tensor, count: int) -> list[int]:
    return sorted(scores.sort(descending=True, stable=True).indices[:count].tolist())
