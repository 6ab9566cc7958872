"""Removal of units with what stays adapted: layer by layer, by least squares on calibration rows.

What a unit gives to the rest of the model goes through the last tensor of its group (`Group.cuts`). With the inputs X
of that matrix as the model pruned so far computes them, its new weights are those that best bring the residual stream,
with the matrix's output added, back to what it is in the dense model (or, where the family names no such place, the
output alone). The matrices that read the stream are fitted too: to what they gave in the dense model. Nothing is
trained.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tasks.core.progress import progress
from tasks.families import family_of
from tasks.families.anatomy import LAYER, WHOLE, WIDTH, Family, Group, Kept
from tasks.modeling.matrices import Matrix, layer_matrices, matrices
from tasks.modeling.shrink import chosen, zero
from tasks.reconstruct.fit import Halves, fit, nothing
from tasks.reconstruct.gram import Gram, damped
from tasks.reconstruct.layerwise import Batches, Stream
from tasks.reconstruct.least_squares import least_squares
from tasks.reconstruct.steepness import Loss, steepness
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
    total: str | None
    """See `Sublayer.total`."""


def reconstruct(
    model: PreTrainedModel, kept: Kept, batches: Batches, damping: float = 0.01, choose: Loss | None = None
) -> tuple[dict[str, list[list[int]]], dict[str, float]]:
    """Makes the units not in `kept` give nothing and adapts the others; `model` keeps its shapes (see `shrink`).

    A layer that goes is passed by; the residual width is left to `shrink`.

    Args:
        model: changed in place, in eval mode.
        kept: as `shrink` takes it.
        batches: calibration rows, on the model's device.
        damping: see `least_squares`.
        choose: as many units stay, but which ones is chosen anew by OBS (see `structured.py`), on the inputs that
            each matrix really gets once the layers below are pruned, and by how this loss depends on its output (see
            `steepness.py`).

    Returns:
        `kept` with what was chosen; and by name of the matrix that joins units, the share of the wanted output's energy
        that is missed.
    """
    model.eval()
    joins, gone = _joins(model, kept)
    steep = (
        {} if choose is None else steepness(model, batches, choose, [m for m in matrices(model) if m.tensor in joins])
    )
    stream = Stream(model, batches)
    dense = copy.copy(stream)
    dense.hidden = list(stream.hidden)
    errors: dict[str, float] = {}
    drifted = False
    for number, layer in enumerate(stream.layers):
        known = _Dense(dense, number, layer, joins)
        silent = [group for group in gone if group.layer == number]
        for group in silent:
            _silence(model, group)
        drifted = drifted or bool(silent)
        if LAYER not in {group.kind for group in silent}:
            for names in _in_turn(list(known.matrices), joins):
                join = joins.get(names[0])
                if not drifted and (join is None or bool(join.stay.all())):
                    continue
                for matrix, sums in known.sums(stream, names, None if join is None else join.total):
                    if join and join.group and choose:
                        _choose(matrix, sums[0] + sums[1], join, damping, steep.get(matrix.tensor))
                    stay = torch.ones(matrix.width, dtype=torch.bool) if join is None else join.stay
                    error = fit(matrix, sums, stay, damping)
                    if join:
                        errors[matrix.tensor] = error
                        drifted = True
            stream.advance(number, layer)
        progress("layer", number + 1, len(stream.layers))
    return _with(model, kept, joins), errors


def joined(model: PreTrainedModel, kept: Kept) -> dict[str, Tensor]:
    """Of each matrix that joins units, by name, which columns stay, bool (inputs,)."""
    return {name: join.stay for name, join in _joins(model, kept)[0].items()}


class _Dense:
    """What flows through a layer of the dense model, to be aimed at."""

    def __init__(self, stream: Stream, number: int, layer: nn.Module, joins: dict[str, Join]) -> None:
        """Puts `stream` through the layer, which is still as it was."""
        self.number, self.layer = number, layer
        self.matrices = {matrix.tensor: matrix for matrix in layer_matrices(stream.family, number, layer)}
        self.weights = {
            name: (matrix.read(), None if matrix.bias is None else matrix.bias.detach().clone())
            for name, matrix in self.matrices.items()
        }
        totals = {joins[name].total for name in self.matrices if name in joins} - {None}
        self.seen = stream.advance(number, layer, list(self.matrices.values()), [t for t in totals if t is not None])

    def sums(self, stream: Stream, names: Sequence[str], total: str | None) -> Iterator[tuple[Matrix, Halves]]:
        """Of each matrix those over its inputs in `stream` and over what is wanted of it; none that sees no text."""
        found = [self.matrices[name] for name in names]
        sums = [nothing(matrix, outputs=True) for matrix in found]
        runs = stream.inputs(self.number, self.layer, found, total)
        for batch, (seen, known, mask) in enumerate(zip(runs, self.seen, stream.masks, strict=True)):
            tokens = int(mask.sum())
            for name, halves in zip(names, sums, strict=True):
                x = seen[name]
                if len(x) == tokens:  # else it reads positions alone, which do not change
                    wanted = nn.functional.linear(x if total is not None else known[name], *self.weights[name])
                    halves[batch % 2].add(x, wanted if total is None else wanted + known[total] - seen[total])
        return ((matrix, halves) for matrix, halves in zip(found, sums, strict=True) if halves[0].tokens)


def _in_turn(names: Sequence[str], joins: dict[str, Join]) -> Iterator[list[str]]:
    """The matrices of a layer in their order: each that joins units alone, those between together."""
    readers: list[str] = []
    for name in names:
        if name not in joins:
            readers.append(name)
            continue
        if readers:
            yield readers
        readers = []
        yield [name]
    if readers:
        yield readers


def _joins(model: PreTrainedModel, kept: Kept) -> tuple[dict[str, Join], list[Group]]:
    """Of each matrix that joins units what stays; and the sublayers and layers that go, whose matrices are none."""
    family = family_of(model.config.model_type)
    found = {matrix.tensor: matrix for matrix in matrices(model)}
    joins: dict[str, Join] = {}
    gone: list[Group] = []
    for group, units in chosen(family, model, kept):
        if group.kind in WHOLE and not units:
            gone.append(group)
        elif group.kind not in (*WHOLE, WIDTH):
            cut = group.cuts[-1]
            matrix = found[cut.tensor]
            mine = torch.zeros(matrix.width, dtype=torch.bool, device=matrix.parameter.device)
            mine[matrix.columns(cut, units)] = True
            other = joins.get(cut.tensor)
            if other is None:
                joins[cut.tensor] = Join(mine, group, units, _total(family, cut.tensor))
            else:  # two kinds share the matrix: what one chose binds the other
                joins[cut.tensor] = Join(other.stay & mine, None, [], other.total)
    silent = {(group.layer, group.kind) for group in gone}
    return {n: j for n, j in joins.items() if (found[n].layer, _sublayer(model, n)) not in silent}, gone


def _silence(model: PreTrainedModel, group: Group) -> None:
    parameters = dict(model.named_parameters())
    for cut in group.cuts:
        zero(parameters[cut.tensor].data, cut, [0])


def _choose(matrix: Matrix, gram: Gram, join: Join, damping: float, steep: Tensor | None) -> None:
    """Chooses as many units of the join's group by greedy removal, against what is wanted of the matrix."""
    if join.group is None or len(join.kept) == join.group.count:
        return
    sums = gram if matrix.bias is None else gram.centred()
    columns = torch.arange(matrix.width, device=sums.matrix.device)
    bias = None if matrix.bias is None else matrix.bias.detach()
    target = least_squares(matrix.read().double(), gram, columns, damping, bias).weight
    target = target if steep is None else steep @ target
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


def _total(family: Family, tensor: str) -> str | None:
    """Where the output of the matrix is seen with the residual."""
    outputs = {f".{part.output}.weight": part.total for part in family.sublayers.values()}
    return next((total for output, total in outputs.items() if tensor.endswith(output)), None)
