"""The prepared rows and a seed's dense model, by the product's stages: `python -m contenders.base SEED STEPS`."""

import shutil
import sys
from pathlib import Path

from contenders.settings import BATCH, DENSE_EPOCHS, STEPS, THREADS, home, prepared
from tasks.core.files import whole, write_json
from tasks.modeling.inference import logits, open_model
from tasks.prepare import prepare
from tasks.recipe.load import resolve
from tasks.sources import cache_dir, fetch
from tasks.text.data import read_split
from tasks.train import train_dense

CHOSEN = "chosen.json"


def main(seed: int, steps: int) -> None:
    """Makes what is not there yet; a budget of N steps that is only to try things out has N batches of rows."""
    limit = "null" if steps == STEPS else str(BATCH * steps)
    recipe, rows = resolve(Path("quickstart"), [f"seed={seed}", f"data.limit={limit}"]), prepared(steps)
    if not rows.is_dir():
        with whole(rows) as out:
            prepare(recipe.data, recipe.task, recipe.model, 0, Path(), out)
    root = home(steps) / f"seed{seed}"
    if (root / "dense" / CHOSEN).is_file():
        return
    source = fetch(recipe.model.source, cache_dir(), Path(), "model")
    found: dict[int, float] = {}
    for epochs in DENSE_EPOCHS:
        trial = root / f"epochs{epochs}"
        if not trial.is_dir():
            settings = recipe.train.model_copy(update={"epochs": epochs * steps / STEPS})
            with whole(trial) as out:
                for name in ("dense", "teacher"):
                    (out / name).mkdir()
                scratch = root / f"scratch{epochs}"
                train_dense(source, rows, settings, "accuracy", seed, scratch, out / "dense", out / "teacher")
                shutil.rmtree(scratch)
        found[epochs] = accuracy(trial / "dense", rows)
    best = max(found, key=lambda epochs: (found[epochs], -epochs))
    for name in ("teacher", "dense"):
        with whole(root / name) as out:
            shutil.copytree(root / f"epochs{best}" / name, out, dirs_exist_ok=True)
            if name == "dense":
                write_json(out / CHOSEN, {"epochs": best, "validation": {str(e): v for e, v in found.items()}})


def accuracy(model: Path, rows: Path) -> float:
    """Of a checkpoint on validation."""
    split = read_split(rows, "validation")
    return float((logits(open_model(model, THREADS), split, 64).argmax(-1) == split.labels).mean())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
