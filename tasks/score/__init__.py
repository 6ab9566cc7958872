"""Importance of every unit of a model, by the criterion that the recipe names."""

from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from tasks.modeling.checkpoint import load
from tasks.modeling.inference import device
from tasks.recipe.schema import Score
from tasks.score.activation import ACTIVATION
from tasks.score.criterion import Criterion, Sample
from tasks.score.fisher import FISHER
from tasks.score.gradient import GRADIENT
from tasks.score.magnitude import MAGNITUDE, MAGNITUDE_L1
from tasks.score.obs import OBS, obs_fisher
from tasks.score.random import random
from tasks.score.taylor import TAYLOR, TAYLOR_ABSOLUTE
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
SCORES = "scores.safetensors"


def score_units(model: Path, prepared: Path, settings: Score, weights: bool, seed: int, out: Path) -> None:
    """Writes `scores.safetensors`: a float32 vector per kind and layer ("head.0"), one number per unit of `model`.

    Args:
        weights: single weights are scored too, each matrix under "weight." and its name.
    """
    train = read_split(prepared, "train", model)
    rows = np.random.default_rng(seed).permutation(len(train))[: settings.rows]
    source = load(model).to(device())
    chosen, task = train.take(np.sort(rows)), read_task(prepared)
    sample = Sample(source, chosen, settings.batch_size, task, seed, weights)
    save_file(CRITERIA[settings.criterion](sample), out / SCORES)
