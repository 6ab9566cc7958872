"""Every matrix refitted apart from the others, to what the model gave before anything was removed.

One pass over the calibration rows serves any number of plans: it leaves, of each matrix that joins units, the sums
over tokens that a fit needs, and the damping that they bear with every second column gone. A plan then costs one
least-squares solution for each of these. Unlike in `units.reconstruct` no
matrix makes up for what those below it miss, so this judges a plan, and `units.reconstruct` carries it out.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tasks.core.progress import progress
from tasks.families import family_of
from tasks.families.anatomy import WHOLE, WIDTH, Kept
from tasks.modeling.matrices import layer_matrices, matrices
from tasks.reconstruct.fit import aimed, bearable, nothing, put
from tasks.reconstruct.gram import Gram
from tasks.reconstruct.layerwise import Batches, Stream
from tasks.reconstruct.units import joined

FILE = "moments.safetensors"
DAMPING = "damping"


def moments(model: PreTrainedModel, kinds: Sequence[str], batches: Batches, damping: float) -> dict[str, Tensor]:
    """By name of each matrix that joins units of `kinds` and a field of `Gram`, its sums; and its damping.

    Memory: 4 inputs * (inputs + outputs) bytes a matrix, float32. Time: two passes of the model.

    Args:
        damping: the least; see `fit`.
    """
    family, found = family_of(model.config.model_type), {}
    groups = [group for group in family.groups(model) if group.kind in kinds and group.kind not in (*WHOLE, WIDTH)]
    names = {group.cuts[-1].tensor for group in groups}
    stream = Stream(model, batches)
    for number, layer in enumerate(stream.layers):
        joins = {m.tensor: m for m in layer_matrices(family, number, layer) if m.tensor in names}
        sums = {name: nothing(matrix, outputs=False) for name, matrix in joins.items()}
        for batch, seen in enumerate(stream.advance(number, layer, list(joins.values()))):
            for name, halves in sums.items():
                halves[batch % 2].add(seen[name])
        for name, halves in sums.items():
            matrix = joins[name]
            first, second = aimed(matrix, halves)
            bias = None if matrix.bias is None else matrix.bias.detach()
            best = bearable(matrix.read(), (first, second), torch.arange(0, matrix.width, 2), damping, bias)
            for part, value in {**vars(first + second), DAMPING: best}.items():
                exact = value.float() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
                found[f"{name}/{part}"] = exact
        progress("layer", number + 1, len(stream.layers))
    return {name: tensor.cpu() for name, tensor in found.items()}


def refit(model: PreTrainedModel, kept: Kept, sums: Mapping[str, Tensor]) -> dict[str, float]:
    """Makes the units not in `kept` give nothing and fits the matrices that join them; `model` keeps its shapes.

    Args:
        model: changed in place.
        kept: as `shrink` takes it.
        sums: the `moments` of the model.

    Returns:
        By name of the matrix, the share of its output's energy that is missed.
    """
    found = {matrix.tensor: matrix for matrix in matrices(model)}
    errors = {}
    for name, stay in joined(model, kept).items():
        if not bool(stay.all()):
            errors[name] = put(found[name], _gram(sums, name, stay.device), stay, float(sums[f"{name}/{DAMPING}"]))
    return errors


def _gram(sums: Mapping[str, Tensor], key: str, device: torch.device) -> Gram:
    matrix, total, cross, wanted = (
        sums[f"{key}/{part}"].to(device, torch.float64) for part in ("matrix", "total", "cross", "wanted")
    )
    return Gram(matrix, total, int(sums[f"{key}/tokens"]), cross, wanted, float(sums[f"{key}/energy"]))
