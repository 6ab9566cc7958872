"""Criteria that look at what units give to the rest of the model: the columns of the matrix that joins them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tasks.core.progress import progress
from tasks.families import family_of
from tasks.families.anatomy import WHOLE, WIDTH, Group
from tasks.modeling.matrices import Matrix, layer_matrices
from tasks.reconstruct.gram import Gram
from tasks.reconstruct.layerwise import Stream
from tasks.score.criterion import Criterion, Sample, Scores

Joining = Callable[[Tensor, Gram, Sequence[Sequence[int]]], Tensor]
"""(matrix (outputs, inputs), Gram of its inputs, columns of each unit) to scores, shape (units,)."""


def by_join(score: Joining, single: Callable[[Tensor, Gram], Tensor] | None = None) -> Criterion:
    """Scores the units of each group by the matrix that joins them and the second moments of its inputs.

    A whole sublayer is one unit that holds every column; a layer scores the sum of its sublayers. The residual width
    is joined by no matrix and gets no score. Memory: the Gram matrices of one layer.

    Args:
        score: of units.
        single: of single weights, from (matrix, Gram); None: it says nothing of them.
    """

    def criterion(sample: Sample) -> Scores:
        family = family_of(sample.model.config.model_type)
        stream = Stream(sample.model.eval(), sample.batches())
        scores: Scores = {}
        for number, layer in enumerate(stream.layers):
            found = {matrix.tensor: matrix for matrix in layer_matrices(family, number, layer)}
            groups = [group for group in sample.groups if group.layer == number and group.kind != WIDTH]
            weigh = single if sample.weights else None
            wanted = list(found) if weigh else [name for name in found if _joins(name, groups)]
            grams = _grams(stream, number, [found[name] for name in wanted])
            for group in groups:
                scores[group.name] = _score(group, found, grams, score).float().cpu()
            for name in wanted if weigh else ():
                values = weigh(found[name].read(), grams[name])  # type: ignore[misc]
                scores[f"weight.{name}"] = found[name].fold(values).float().cpu()
            stream.advance(number, layer)
            progress("layer", number + 1, len(stream.layers))
        return scores

    return criterion


def _joins(name: str, groups: Sequence[Group]) -> bool:
    cuts = (group.cuts if group.kind in WHOLE else group.cuts[-1:] for group in groups)
    return any(name == cut.tensor for part in cuts for cut in part)


def _grams(stream: Stream, number: int, wanted: Sequence[Matrix]) -> dict[str, Gram]:
    grams = {matrix.tensor: Gram.empty(matrix.width, device=matrix.parameter.device) for matrix in wanted}
    for seen in stream.inputs(number, stream.layers[number], wanted):
        for name, x in seen.items():
            grams[name].add(x)
    return grams


def _score(group: Group, found: dict[str, Matrix], grams: dict[str, Gram], score: Joining) -> Tensor:
    if group.kind not in WHOLE:
        matrix = found[group.cuts[-1].tensor]
        columns = [matrix.columns(group.cuts[-1], [unit]).tolist() for unit in range(group.count)]
        return score(matrix.read(), grams[matrix.tensor], columns)
    outputs = [found[cut.tensor] for cut in group.cuts if cut.tensor in found]
    return sum((score(m.read(), grams[m.tensor], [list(range(m.width))]).cpu() for m in outputs), torch.zeros(1))
