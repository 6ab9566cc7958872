"""What units cost: parameters, operations on a row of some length, or time by a table that was measured."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from tasks.allocate.cost import Latency, Linear
from tasks.allocate.levels import Cost
from tasks.allocate.times import BATCH_1, against_whole
from tasks.core.errors import UserError
from tasks.families import family_of
from tasks.families.anatomy import LAYER, WHOLE, Group, head_dim
from tasks.modeling.matrices import matrices
from tasks.modeling.shrink import dense_layers
from tasks.modeling.size import size

PARAMETERS, FLOPS, LATENCY = "parameters", "flops", "latency"


@dataclass(frozen=True)
class Prices:
    """What groups cost, and may cost together."""

    costs: Mapping[str, Cost]
    """By group."""
    budget: float


Priced = Callable[[Sequence[str]], Prices]
"""The prices of all groups of some kinds, which share a budget."""


def by_formula(
    model: PreTrainedModel, dense: Mapping[str, float], cost: str, share: float, length: float, kinds: Sequence[str]
) -> Prices:
    """Parameters or FLOPs, so that `share` of the dense model's goes.

    Args:
        dense: what the dense model costs.
        length: tokens of a row.
        kinds: of the groups of `model` that share the budget.
    """
    each = unit_costs(model, length)
    groups = [group for group in family_of(model.config.model_type).groups(model) if group.kind in kinds]
    rest = size(model, length)[cost] - sum(each[group.name][cost] * group.count for group in groups)
    costs = {group.name: Linear(each[group.name][cost]) for group in groups}
    return Prices(costs, dense[cost] * (1 - share) - rest)


def by_table(model: PreTrainedModel, table: Mapping[str, Any], share: float, kinds: Sequence[str]) -> Prices:
    """Seconds, so that a text alone takes `share` less than by the dense model as delivered (ZipLM).

    Args:
        table: of that dense model.
        kinds: of the groups of `model` that share the budget.

    Raises:
        UserError: so much time is not in these kinds.
    """
    more = {kind: against_whole(table, kind, BATCH_1) for kind in kinds}
    # The least time of each group, gone or not, counts as nothing, here and in the budget.
    budget = -sum(float(one.seconds[0]) for layers in more.values() for one in layers.values())
    whole = table["whole"][BATCH_1]
    if budget < share * whole:
        raise UserError(
            f"prune.rounds: latency {share:.3g} is out of reach: with as little as can be of {', '.join(kinds)} "
            f"{budget / whole:.3g} of the time goes; ask for less, or prune more kinds (attention, ffn)"
        )
    costs: dict[str, Cost] = {}
    layers = dense_layers(model)
    for group in family_of(model.config.model_type).groups(model):
        if group.kind in kinds:
            one = more[group.kind][layers[group.layer]]
            costs[group.name] = Latency(one.kept, one.seconds - one.seconds[0])
    return Prices(costs, budget - share * whole)


def unit_costs(model: PreTrainedModel, length: float) -> Mapping[str, dict[str, float]]:
    """Of each group by name: the parameters and the FLOPs (see `tasks/modeling/size.py`) that go with one unit.

    Args:
        length: tokens of a row.
    """
    family = family_of(model.config.model_type)
    parameters = {name: parameter.numel() for name, parameter in model.named_parameters()}
    inside = {matrix.tensor for matrix in matrices(model)}
    groups = family.groups(model)
    heads = {group.layer: group.count for group in groups if group.kind == "head"}
    per_head = 2 * family.products * length**2 * head_dim(model.config)

    def attention(group: Group) -> float:
        """Operations of the products between heads, per unit."""
        if group.kind in ("head", "kv_group", "attention", LAYER):
            return per_head * heads.get(group.layer, 0) / group.count
        return 0.0

    costs = {}
    for group in groups:
        parts = group.modules or ((f"{family.layers}.{group.layer}",) if group.kind == LAYER else ())
        names = [name for name in parameters if name.startswith(tuple(f"{part}." for part in parts))] if parts else []
        names = names if group.kind in WHOLE else [cut.tensor for cut in group.cuts]
        operations = 2 * length * sum(parameters[name] for name in names if name in inside) / group.count
        costs[group.name] = {
            PARAMETERS: sum(parameters[name] for name in names) / group.count,
            FLOPS: operations + attention(group),
        }
    return costs
