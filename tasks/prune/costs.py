"""What a unit costs: parameters, and operations on a row of some length."""

from collections.abc import Mapping

from transformers import PreTrainedModel

from tasks.families import family_of
from tasks.families.anatomy import LAYER, WHOLE, Group, head_dim
from tasks.modeling.matrices import matrices

PARAMETERS, FLOPS = "parameters", "flops"


def unit_costs(model: PreTrainedModel, length: float) -> Mapping[str, dict[str, float]]:
    """Of each group by name: the parameters and the FLOPs (see `tasks/modeling/size.py`) that go with one unit.

    Args:
        length: tokens of a row.
    """
    family = family_of(model.config.model_type)
    size = {name: parameter.numel() for name, parameter in model.named_parameters()}
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
        names = [name for name in size if name.startswith(tuple(f"{part}." for part in parts))] if parts else []
        names = names if group.kind in WHOLE else [cut.tensor for cut in group.cuts]
        operations = 2 * length * sum(size[name] for name in names if name in inside) / group.count
        costs[group.name] = {
            PARAMETERS: sum(size[name] for name in names) / group.count,
            FLOPS: operations + attention(group),
        }
    return costs
