"""A shallower student: some of the teacher's layers, trained on its outputs (as DistilBERT, Sanh et al., 2019)."""

import copy
import re
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedModel

from tasks.core.errors import UserError
from tasks.core.files import whole
from tasks.families import family_of
from tasks.modeling.checkpoint import load, save
from tasks.recipe.schema import Distill
from tasks.training.train import Course, train


def distill(
    dense: Path, prepared: Path, teacher: Path, settings: Distill, metric: str, seed: int, scratch: Path, out: Path
) -> None:
    """Builds the student from the layers that `settings` names and trains it with the dense model as teacher."""
    start = scratch / "start"
    if not start.is_dir():
        with whole(start) as directory:
            save(shallower(load(dense), settings.layers), directory)
    train(Course(start, prepared, teacher, dense, settings, metric, seed, scratch, out))


def shallower(model: PreTrainedModel, layers: Sequence[int] | None) -> PreTrainedModel:
    """A model of the same architecture with the given layers only, in the given order (None: every second one).

    Raises:
        UserError: a layer that the model does not have.
    """
    family = family_of(model.config.model_type)
    depth = getattr(model.config, family.depth)
    chosen = list(layers) if layers is not None else list(range(0, depth, 2))
    if any(layer >= depth for layer in chosen):
        raise UserError(f"distill.layers: {chosen}; the model has layers 0 to {depth - 1}")
    config = copy.deepcopy(model.config)
    setattr(config, family.depth, len(chosen))
    student = type(model)(config)
    pattern = re.compile(rf"{re.escape(family.layers)}\.(\d+)\.(.*)")
    state = {}
    for name, tensor in model.state_dict().items():
        match = pattern.fullmatch(name)
        if match is None:
            state[name] = tensor
            continue
        state |= {f"{family.layers}.{new}.{match[2]}": tensor for new, old in enumerate(chosen) if old == int(match[1])}
    student.load_state_dict(state, strict=True)
    return student.eval()
