"""Importance of every unit of a model, by the criterion that the recipe names."""

from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file

from tasks.modeling.checkpoint import load
from tasks.modeling.inference import device
from tasks.recipe.pruning import Score
from tasks.score.activation import ACTIVATION
from tasks.score.criterion import Criterion, Sample, Scores
from tasks.score.fisher import FISHER
from tasks.score.gradient import GRADIENT
from tasks.score.l0 import l0
from tasks.score.magnitude import MAGNITUDE, MAGNITUDE_L1
from tasks.score.movement import movement
from tasks.score.obs import OBS, obs_fisher
from tasks.score.random import random
from tasks.score.taylor import TAYLOR, TAYLOR_ABSOLUTE
from tasks.score.trained import SCORES, Lesson, Trained, learn
from tasks.score.wanda import WANDA
from tasks.text.data import read_split
from tasks.text.registry import read_task

CRITERIA: dict[str, Criterion] = {
    "random": random,
    "magnitude": MAGNITUDE,
    "magnitude_l1": MAGNITUDE_L1,
    "gradient": GRADIENT,
    "taylor": TAYLOR,
    "taylor_absolute": TAYLOR_ABSOLUTE,
    "fisher": FISHER,
    "activation": ACTIVATION,
    "wanda": WANDA,
    "obs": OBS,
    "obs_fisher": obs_fisher,
}
TRAINED: dict[str, Trained] = {"movement": movement, "l0": l0}
"""Criteria that train a copy of the model."""
COMPARED = "compare.safetensors"
SAMPLED = 4096
"""Weights of a matrix that are compared at most."""


def score_units(
    model: Path,
    prepared: Path,
    settings: Score,
    kinds: Sequence[str],
    metric: str,
    seed: int,
    scratch: Path,
    out: Path,
    *,
    compare: bool = False,
) -> None:
    """Writes `scores.safetensors`: a float32 vector per kind and layer ("head.0"), one number per unit of `model`.

    Args:
        kinds: what is pruned; with `weight` single weights are scored too, each matrix under "weight." and its name.
        metric: by which a training is validated.
        scratch: where a training may leave checkpoints.
        out: gets the scores; of a training also its training.json and, if it changed the model to be pruned, `model`.
        compare: the criteria of `settings.compare` score the same units on the same rows; `compare.safetensors` gets
            the scores of all, each under "criterion/head.0", but only a sample of single weights.
    """
    if settings.criterion in TRAINED:
        learn(Lesson(model, prepared, settings, tuple(kinds), metric, seed, scratch, out), TRAINED[settings.criterion])
        if not (compare and settings.compare):
            return
    train = read_split(prepared, "train", model)
    source = load(model).to(device())
    chosen, task = train.sample(settings.rows, seed), read_task(prepared)
    sample = Sample(source, chosen, settings.batch_size, task, seed, "weight" in kinds)
    if settings.criterion in TRAINED:
        scores = load_file(out / SCORES)
    else:
        scores = CRITERIA[settings.criterion](sample)
        save_file(scores, out / SCORES)
    others = [name for name in dict.fromkeys(settings.compare) if name != settings.criterion] if compare else []
    if others:
        found = _named(settings.criterion, scores)
        for name in others:
            found |= _named(name, CRITERIA[name](sample))
        save_file(found, out / COMPARED)


def _named(criterion: str, scores: Scores) -> Scores:
    """Scores under the criterion's name; of single weights evenly spaced ones, the same for each criterion."""
    found = {}
    for name, values in scores.items():
        flat = values.flatten()
        step = -(-len(flat) // SAMPLED) if name.startswith("weight.") else 1
        found[f"{criterion}/{name}"] = flat[::step].clone()
    return found
