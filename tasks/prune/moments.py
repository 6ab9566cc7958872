"""What quick refitting needs of a model, for any number of plans."""

from pathlib import Path

from safetensors.torch import save_file

from tasks.modeling.checkpoint import load
from tasks.modeling.inference import device
from tasks.recipe.pruning import Prune
from tasks.reconstruct.apart import FILE, moments
from tasks.reconstruct.layerwise import batched
from tasks.text.data import read_split


def gather(model: Path, prepared: Path, settings: Prune, seed: int, out: Path) -> None:
    """Writes moments.safetensors: the sums over the calibration rows that `tasks/reconstruct/apart.py` fits by."""
    source = load(model).to(device()).eval()
    sample = read_split(prepared, "train", model).sample(settings.rows, seed)
    batches = batched(sample, settings.batch_size, source.device)
    save_file(moments(source, settings.units, batches, settings.damping), out / FILE)
