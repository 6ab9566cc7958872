"""Importance of every unit of a model, by the criterion that the recipe names."""

from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from tasks.modeling.checkpoint import load
from tasks.modeling.inference import device
from tasks.recipe.schema import Score
from tasks.score.criterion import score
from tasks.score.fisher import FISHER
from tasks.score.magnitude import MAGNITUDE
from tasks.score.taylor import TAYLOR
from tasks.text.data import read_split
from tasks.text.registry import read_task

CRITERIA = {"fisher": FISHER, "magnitude": MAGNITUDE, "taylor": TAYLOR}
SCORES = "scores.safetensors"


def score_units(model: Path, prepared: Path, settings: Score, seed: int, out: Path) -> None:
    """Writes `scores.safetensors`: a float32 vector per kind and layer ("head.0"), one number per unit of `model`."""
    train = read_split(prepared, "train")
    rows = np.random.default_rng(seed).permutation(len(train))[: settings.rows]
    source = load(model).to(device())
    chosen, task = train.take(np.sort(rows)), read_task(prepared)
    scores = score(source, CRITERIA[settings.criterion], chosen, settings.batch_size, task)
    save_file(scores, out / SCORES)
