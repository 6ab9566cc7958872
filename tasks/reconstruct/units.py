"""Removal of units with the weights that stay adapted: layer by layer, by least squares on calibration rows.

What a unit gives to the rest of the model goes through the last tensor of its group (`Group.cuts`). With the inputs X
of that matrix as the model pruned so far computes them, its new weights are those that best give what the dense model
gave there (see `least_squares`). Nothing is trained.
"""

import copy

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tasks.core.progress import progress
from tasks.families import family_of
from tasks.families.anatomy import LAYER, WHOLE, WIDTH, Kept
from tasks.modeling.matrices import Matrix, layer_matrices, matrices
from tasks.modeling.shrink import chosen, zero
from tasks.reconstruct.gram import Gram
from tasks.reconstruct.layerwise import Batches, Stream
from tasks.reconstruct.least_squares import least_squares


def reconstruct(model: PreTrainedModel, kept: Kept, batches: Batches, damping: float = 0.01) -> dict[str, float]:
    """Makes the units not in `kept` give nothing and adapts the others; `model` keeps its shapes (see `shrink`).

    A layer that goes is passed by; the residual width is left to `shrink`.

    Args:
        model: changed in place, in eval mode.
        kept: as `shrink` takes it.
        batches: calibration rows, on the model's device.
        damping: see `least_squares`.

    Returns:
        By name of the matrix, the share of its output's energy that is lost, from 0 to 1.
    """
    model.eval()
    stay, gone = _columns(model, kept)
    stream = Stream(model, batches)
    dense = copy.copy(stream)
    dense.hidden = list(stream.hidden)
    errors: dict[str, float] = {}
    for number, layer in enumerate(stream.layers):
        original = copy.deepcopy(layer)
        if (number, LAYER) not in gone:
            pairs = zip(*(layer_matrices(stream.family, number, one) for one in (layer, original)), strict=True)
            for matrix, before in pairs:
                if matrix.tensor in stay and (errors or gone or not bool(stay[matrix.tensor].all())):
                    gram = _gram(number, (stream, layer, matrix), (dense, original, before))
                    errors[matrix.tensor] = _fit(matrix, gram, stay[matrix.tensor], damping)
            stream.advance(number, layer)
        dense.advance(number, original)
        progress("layer", number + 1, len(stream.layers))
    return errors


def _columns(model: PreTrainedModel, kept: Kept) -> tuple[dict[str, Tensor], set[tuple[int, str]]]:
    """Of each matrix that joins units the columns that stay, as booleans; and the sublayers and layers that go.

    What joins the units of a sublayer that goes gives nothing.
    """
    found = {matrix.tensor: matrix for matrix in matrices(model)}
    parameters = dict(model.named_parameters())
    stay: dict[str, Tensor] = {}
    gone: set[tuple[int, str]] = set()
    for group, units in chosen(family_of(model.config.model_type), model, kept):
        if group.kind in WHOLE and not units:
            gone.add((group.layer, group.kind))
            for cut in group.cuts:
                zero(parameters[cut.tensor].data, cut, [0])
        elif group.kind not in (*WHOLE, WIDTH):
            cut = group.cuts[-1]
            matrix = found[cut.tensor]
            mine = torch.zeros(matrix.width, dtype=torch.bool, device=matrix.parameter.device)
            mine[matrix.columns(cut, units)] = True
            stay[cut.tensor] = stay.get(cut.tensor, mine) & mine
    silent = {name for name in stay if (found[name].layer, _sublayer(model, name)) in gone}
    return {name: mine for name, mine in stay.items() if name not in silent}, gone


def _sublayer(model: PreTrainedModel, tensor: str) -> str:
    """The sublayer whose units the matrix joins."""
    family = family_of(model.config.model_type)
    return next(kind.sublayer for kind in family.kinds if tensor.endswith(f".{kind.cuts[-1][0]}"))


def _gram(number: int, mine: tuple[Stream, nn.Module, Matrix], dense: tuple[Stream, nn.Module, Matrix]) -> Gram:
    width = mine[2].width
    gram = Gram.empty(width, width, mine[2].parameter.device)
    streams = (stream.inputs(number, layer, [matrix]) for stream, layer, matrix in (mine, dense))
    for x, target in zip(*streams, strict=True):
        gram.add(x[mine[2].tensor], target[mine[2].tensor])
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
