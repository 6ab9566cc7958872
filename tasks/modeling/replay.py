"""What pruning did to a model, done again to another of the same dense architecture."""

from collections import defaultdict

from transformers import PreTrainedModel

from tasks.families import family_of
from tasks.families.anatomy import WHOLE
from tasks.modeling.shrink import shrink


def replay(dense: PreTrainedModel, pruned: PreTrainedModel) -> PreTrainedModel:
    """`dense` with only the units that `pruned`, made from such a model in any number of rounds, still has.

    The parameters have the names and shapes of those of `pruned`; `dense` is left as it is.
    """
    record = getattr(pruned.config, "pruned", None)
    if not record:
        return dense
    kept: dict[str, list[list[int]]] = defaultdict(list)
    for group in family_of(dense.config.model_type).groups(dense):
        units = record["kept"].get(group.kind, {}).get(str(group.layer), list(range(group.count)))
        if not units and group.kind not in WHOLE:  # its sublayer is gone, and takes it along
            units = list(range(group.count))
        kept[group.kind].append(list(units))
    return shrink(dense, kept)
