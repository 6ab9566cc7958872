"""Removal of units with the weights that stay adapted: layer by layer, by least squares on calibration rows.

What a unit gives to the rest of the model goes through the last tensor of its group (`Group.cuts`). With the inputs X
of that matrix as the model pruned so far computes them, its new weights are those that best give what the dense model
gave there (see `least_squares`). Nothing is trained.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tasks.core.progress import progress
from tasks.families import family_of
from tasks.families.anatomy import LAYER, WHOLE, WIDTH, Group, Kept
from tasks.modeling.matrices import Matrix, layer_matrices, matrices
from tasks.modeling.shrink import chosen, zero
from tasks.reconstruct.gram import Gram, damped
from tasks.reconstruct.layerwise import Batches, Loss, Stream
from tasks.reconstruct.least_squares import least_squares
from tasks.reconstruct.structured import greedy_removal


@dataclass
class Join:
    """A matrix that joins units, and what stays of it."""

    stay: Tensor
    """Columns, bool, shape (inputs,)."""
    group: Group | None
    """Whose units may be chosen anew: that of a matrix that joins units of one kind, each as good as any other."""
    kept: list[int]
    """Of these units."""


def reconstruct(
    model: PreTrainedModel,
    kept: Kept,
    batches: Batches,
    damping: float = 0.01,
    *,
    choose: bool = False,
    loss: Loss | None = None,
) -> tuple[dict[str, list[list[int]]], dict[str, float]]:
    """Makes the units not in `kept` give nothing and adapts the others; `model` keeps its shapes (see `shrink`).

    A layer that goes is passed by; the residual width is left to `shrink`.

    Args:
        model: changed in place, in eval mode.
        kept: as `shrink` takes it.
        batches: calibration rows, on the model's device.
        damping: see `least_squares`.
        choose: as many units stay, but which ones is chosen anew by OBS (see `structured.py`), on the inputs that
            each matrix really gets once the layers below are pruned.

        loss: tokens count by how steep it is in them; all alike if None.

    Returns:
        `kept` with what was chosen; and by name of the matrix, the share of its output's energy that is lost.
    """
    model.eval()
    joins, gone = _joins(model, kept)
    stream = Stream(model, batches, loss)
    dense = copy.copy(stream)
    dense.hidden = list(stream.hidden)
    errors: dict[str, float] = {}
    for number, layer in enumerate(stream.layers):
        original = copy.deepcopy(layer)
        for group in gone:
            if group.layer == number:
                _silence(model, group)
        if (LAYER, number) not in {(group.kind, group.layer) for group in gone}:
            pairs = zip(*(layer_matrices(stream.family, number, one) for one in (layer, original)), strict=True)
            for matrix, before in pairs:
                join = joins.get(matrix.tensor)
                if join and (errors or gone or not bool(join.stay.all())):
                    gram = _gram(number, (stream, layer, matrix), (dense, original, before))
                    if choose and join.group:
                        _choose(matrix, gram, join, damping)
                    errors[matrix.tensor] = _fit(matrix, gram, join.stay, damping)
            stream.advance(number, layer)
        dense.advance(number, original)
        progress("layer", number + 1, len(stream.layers))
    return _with(model, kept, joins), errors


def _joins(model: PreTrainedModel, kept: Kept) -> tuple[dict[str, Join], list[Group]]:
    """Of each matrix that joins units what stays; and the sublayers and layers that go, whose matrices are none."""
    found = {matrix.tensor: matrix for matrix in matrices(model)}
    joins: dict[str, Join] = {}
    gone: list[Group] = []
    for group, units in chosen(family_of(model.config.model_type), model, kept):
        if group.kind in WHOLE and not units:
            gone.append(group)
        elif group.kind not in (*WHOLE, WIDTH):
            cut = group.cuts[-1]
            matrix = found[cut.tensor]
            mine = torch.zeros(matrix.width, dtype=torch.bool, device=matrix.parameter.device)
            mine[matrix.columns(cut, units)] = True
            other = joins.get(cut.tensor)
            if other is None:
                joins[cut.tensor] = Join(mine, group, units)
            else:  # two kinds share the matrix: what one chose binds the other
                joins[cut.tensor] = Join(other.stay & mine, None, [])
    silent = {(group.layer, group.kind) for group in gone}
    return {n: j for n, j in joins.items() if (found[n].layer, _sublayer(model, n)) not in silent}, gone


def _silence(model: PreTrainedModel, group: Group) -> None:
    parameters = dict(model.named_parameters())
    for cut in group.cuts:
        zero(parameters[cut.tensor].data, cut, [0])


def _choose(matrix: Matrix, gram: Gram, join: Join, damping: float) -> None:
    """Chooses as many units of the join's group by greedy removal, against what the dense model computes."""
    if join.group is None or len(join.kept) == join.group.count:
        return
    sums = gram if matrix.bias is None else gram.centred()
    columns = torch.arange(matrix.width, device=sums.matrix.device)
    target = least_squares(matrix.read(), sums, columns, damping).weight
    blocks = [matrix.columns(join.group.cuts[-1], [unit]).tolist() for unit in range(join.group.count)]
    removal = greedy_removal(target, damped(sums.matrix, damping), blocks, len(blocks) - len(join.kept))
    join.kept = sorted(set(range(len(blocks))) - set(removal.order))
    join.stay = torch.zeros_like(join.stay)
    join.stay[matrix.columns(join.group.cuts[-1], join.kept)] = True


def _with(model: PreTrainedModel, kept: Kept, joins: dict[str, Join]) -> dict[str, list[list[int]]]:
    """`kept`, with the units that joins hold."""
    found: dict[str, list[list[int]]] = {}
    for group, units in chosen(family_of(model.config.model_type), model, kept):
        join = joins.get(group.cuts[-1].tensor) if group.kind not in (*WHOLE, WIDTH) else None
        if group.kind in kept:
            found.setdefault(group.kind, []).append(join.kept if join and join.group else units)
    return found


def _sublayer(model: PreTrainedModel, tensor: str) -> str:
    """The sublayer whose units the matrix joins."""
    family = family_of(model.config.model_type)
    return next(kind.sublayer for kind in family.kinds if tensor.endswith(f".{kind.cuts[-1][0]}"))


def _gram(number: int, mine: tuple[Stream, nn.Module, Matrix], dense: tuple[Stream, nn.Module, Matrix]) -> Gram:
    width = mine[2].width
    gram = Gram.empty(width, width, mine[2].parameter.device)
    streams = (stream.inputs(number, layer, [matrix]) for stream, layer, matrix in (mine, dense))
    for batch, (x, target) in enumerate(zip(*streams, strict=True)):
        weights = mine[0].weights[batch][number] if mine[0].weights else None
        gram.add(x[mine[2].tensor], target[mine[2].tensor], weights)
    return gram


def _fit(matrix: Matrix, gram: Gram, stay: Tensor, damping: float) -> float:
    weight, columns = matrix.read(), stay.nonzero().flatten()
    fit = least_squares(weight, gram, columns, damping, None if matrix.bias is None else matrix.bias.detach())
    values = torch.zeros_like(weight)
    values[:, columns] = fit.weight
    matrix.write(values)
    if matrix.bias is not None and fit.bias is not None:
        with torch.no_grad():
            matrix.bias.copy_(fit.bias)
    return fit.error
