"""`secateur predict MODEL TEXT…`: labels for texts, by any model of the run or any directory that holds one."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from flows.workspace import PIPELINE, find
from tasks.core.errors import UserError
from tasks.core.files import read_json
from tasks.recipe.load import read

if TYPE_CHECKING:
    from tasks.text.data import Split

BATCH = 32


def predict(model: str, texts: list[str]) -> None:
    """Prints one line per text, in order: label, probability and text, with tabs between.

    Args:
        model: name of one of the last run's, or a directory.
        texts: none: lines of standard input.

    Raises:
        UserError: there is no such model, or no text.
    """
    given = texts or [line.rstrip("\n") for line in sys.stdin if line.strip()]
    if not given:
        raise UserError("no text; give texts as arguments, or lines on standard input")
    import numpy as np
    import torch

    from tasks.modeling.inference import logits, open_model

    root = find(Path.cwd()) if not Path(model).is_dir() else Path.cwd()
    directory = locate(root, model)
    torch.set_num_threads(threads_of(root))
    run = open_model(directory, torch.get_num_threads())
    config = read_json(directory / "config.json")
    split = encode(directory, given, config.get("max_position_embeddings", 512))
    values = logits(run, split, BATCH).astype(np.float64)
    shares = np.exp(values - values.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    labels = config.get("id2label", {})
    for text, row in zip(given, shares, strict=True):
        best = int(row.argmax())
        print(labels.get(str(best), str(best)), f"{row[best]:.4f}", text, sep="\t")


def locate(root: Path, model: str) -> Path:
    """The directory of a model: given itself, or by its name in the last run.

    Raises:
        UserError: neither; says which names there are.
    """
    if Path(model).is_dir():
        return Path(model)
    known = names_of(root)
    if model in known:
        return root / known[model]
    raise UserError(
        f"{model}: no such directory, and no model of the last run; there are: {', '.join(known) or 'none'}"
    )


def names_of(root: Path) -> dict[str, str]:
    """Directories of the last run's models, relative to the workspace, by name."""
    try:
        found = read_json(root / "data" / "evaluate" / "test" / "quality.json")
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return {name: facts["path"] for name, facts in found["models"].items()}


def threads_of(root: Path) -> int:
    """CPU threads that the workspace's recipe wants; all cores where there is none."""
    wanted = read(root / PIPELINE).threads if (root / PIPELINE).is_file() else 0
    return wanted or len(os.sched_getaffinity(0))


def encode(directory: Path, texts: list[str], max_length: int) -> "Split":
    """Texts as the model's tokenizer sees them, cut off at `max_length` tokens."""
    import numpy as np
    from transformers import AutoTokenizer

    from tasks.text.data import Split

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{directory}: no tokenizer beside the model ({error})") from None
    encoded = tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]
    return Split(
        [np.asarray(ids, np.int64) for ids in encoded], None, np.zeros(len(texts), np.int64), tokenizer.pad_token_id
    )
