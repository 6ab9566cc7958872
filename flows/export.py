"""`secateur export MODEL DIRECTORY`: what is handed over of a run, which any program loads without Secateur."""

import shutil
from pathlib import Path

from flows.predict import QUALITY, names_of
from flows.workspace import find
from tasks.core.errors import UserError
from tasks.core.files import read_json, tree_hash, whole

CARDS = Path("data/report/cards")
OF_A_RUN = {"provenance.json", "training.json", "plan.json"}
"""Files of a checkpoint that say how it came about: the card and its `provenance.json` do."""


def export(model: str, directory: Path) -> None:
    """Writes a directory with checkpoint, tokenizer, graph if the model is one, card and records of provenance.

    Args:
        model: name of one of the last run's.
        directory: must not be there yet, or be empty.

    Raises:
        UserError: there is no such model, it or its card is not of the same run, or the directory is in use.
    """
    root = find(Path.cwd())
    known = names_of(root)
    if model not in known:
        raise UserError(f"{model}: no model of the last run; there are: {', '.join(known) or 'none'}")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(f"{directory} is there already; give a directory that is new or empty")
    card = root / CARDS / model
    if not (card / "provenance.json").is_file():
        raise UserError(f"{model} has no card yet: the report writes it; finish the run with: secateur run")
    for record in read_json(card / "provenance.json"):
        if tree_hash(root / record["out"]) != record["sha256"]:
            raise UserError(f"{record['out']} changed since the report; make it anew with: secateur run")
    checkpoint = root / read_json(root / QUALITY)["models"][model]["checkpoint"]
    with whole(directory) as out:
        for source in dict.fromkeys((root / known[model], checkpoint, card)):  # of the same name the last counts
            for file in source.iterdir():
                if file.is_file() and (source == card or file.name not in OF_A_RUN):
                    shutil.copyfile(file, out / file.name)
