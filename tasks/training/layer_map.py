"""Which layer of the teacher each layer of the student learns from."""

from collections.abc import Sequence

from transformers import PreTrainedModel

from tasks.core.errors import UserError
from tasks.families import family_of
from tasks.recipe.trainings import LayerMap

Pairs = list[tuple[int, int]]
"""(layer of the student, layer of the teacher), by their places in the models as they are."""


def numbers(model: PreTrainedModel) -> list[int]:
    """The number of each layer in the model as it was first built, before layers were removed."""
    depth = int(getattr(model.config, family_of(model.config.model_type).depth))
    record = getattr(model.config, "pruned", None) or {}
    return list(record.get("layers", range(depth)))


def fixed(layer_map: LayerMap, student: Sequence[int], teacher: Sequence[int], *, pruned: bool) -> Pairs:
    """The pairs of a map that is not learned.

    Args:
        layer_map: `uniform`: the layer of the same number for a student that was pruned from the teacher, else
            ceil((s + 1) T / S) - 1, evenly spread with last to last (TinyBERT, Jiao et al., 2020). `last`: the last
            two. Pairs: these; if pruned, without those whose layer the student has lost.
        student: what the map calls the student's layers, in their order.
        teacher: likewise.
        pruned: whether both are called by numbers of one and the same model.

    Raises:
        UserError: a layer that is not there, or no pair is left.
    """
    if layer_map == "last":
        return [(len(student) - 1, len(teacher) - 1)]
    if layer_map == "uniform" and not pruned:
        return [(s, -(-(s + 1) * len(teacher) // len(student)) - 1) for s in range(len(student))]
    wanted = [(layer, layer) for layer in student] if isinstance(layer_map, str) else layer_map
    for of, layers, known in (("student", [s for s, _ in wanted], {*student, *(teacher if pruned else ())}),
                              ("teacher", [t for _, t in wanted], {*teacher})):  # fmt: skip
        if missing := sorted(set(layers) - known):
            there = ", ".join(map(str, sorted(known)))
            raise UserError(f"layer_map: the {of} has no layer {missing[0]}; its layers are {there}")
    pairs = [(student.index(s), teacher.index(t)) for s, t in wanted if s in student]
    if not pairs:
        raise UserError("layer_map: the student has lost every layer that it names; name others, or take uniform")
    return pairs
