"""L0 (Louizos, Welling & Kingma, 2018): how far a trained gate on a unit is open; pruning starts from what it gated."""

from transformers import PreTrainedModel

from tasks.score.trained import Lesson, Watched
from tasks.training.gates import Gates
from tasks.training.pressure import Price, Target


def l0(lesson: Lesson, model: PreTrainedModel) -> Watched:
    """0 for units whose gates are shut (see `Gates.scores`); the weights that were trained along, gates folded in."""
    del model
    settings = lesson.settings
    pressure = Price(settings.penalty) if settings.target is None else Target(settings.target)
    gates = Gates(lesson.kinds, pressure, lesson.seed, settings.gate_rate)
    return Watched([gates], gates.scores, gates.fold)
