"""`secateur predict MODEL TEXT…`: labels or answers, by any model of the run or any directory that holds one."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.workspace import PIPELINE, find
from tasks.core.errors import UserError
from tasks.core.files import read_json
from tasks.recipe.load import read

if TYPE_CHECKING:
    from tasks.text.classification import Classification
    from tasks.text.data import Split
    from tasks.text.multilabel import MultiLabel
    from tasks.text.task import Outputs

BATCH = 32
Line = tuple[str, ...]


def predict(model: str, texts: list[str]) -> None:
    """Prints one line per text, in order, with tabs between: label, probability, text.

    A multi-label model prints its labels, each with its probability; one that answers questions takes JSON objects with
    `question` and `context` for texts, and prints answer, probability and question.

    Args:
        model: name of one of the last run's, or a directory.
        texts: none: lines of standard input.

    Raises:
        UserError: there is no such model, it is of no known task, or there is no text.
    """
    given = texts or [line.rstrip("\n") for line in sys.stdin if line.strip()]
    if not given:
        raise UserError("no text; give texts as arguments, or lines on standard input")
    import torch

    from flows.answer import answered, ask
    from tasks.modeling.inference import logits, open_model
    from tasks.text.classification import Classification
    from tasks.text.multilabel import MultiLabel
    from tasks.text.qa import QuestionAnswering
    from tasks.text.registry import TASKS, task_of

    root = find(Path.cwd()) if not Path(model).is_dir() else Path.cwd()
    directory = locate(root, model)
    torch.set_num_threads(threads_of(root))
    run = open_model(directory, torch.get_num_threads())
    config = read_json(directory / "config.json")
    task = task_of(config)
    if isinstance(task, QuestionAnswering):
        split = ask(directory, given, task)
        lines = answered(logits(run, split, BATCH), split, task, config)
    elif isinstance(task, Classification | MultiLabel):
        split = encode(directory, given, config.get("max_position_embeddings", 512))
        lines = labelled(logits(run, split, BATCH), split, task, given)
    else:
        raise UserError(f"{directory}: config.json names no task; give a model trained for one of {', '.join(TASKS)}")
    for line in lines:
        print(*line, sep="\t")


def labelled(values: "Outputs", split: "Split", task: "Classification | MultiLabel", texts: list[str]) -> list[Line]:
    """Label or labels, probability, text."""
    import numpy as np

    from tasks.text.multilabel import MultiLabel

    logits = values.astype(np.float64)
    if isinstance(task, MultiLabel):
        shares = 1 / (1 + np.exp(-logits))
        chosen = task.predict(values, split, {})
        named = (
            ", ".join(f"{task.labels[i]} {share[i]:.4f}" for i in row)
            for row, share in zip(chosen, shares, strict=True)
        )
        return [(names or "none", text) for names, text in zip(named, texts, strict=True)]
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    return [(task.labels[int(row.argmax())], f"{row.max():.4f}", text) for text, row in zip(texts, shares, strict=True)]


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

    from tasks.text.data import Split, pads_left

    tokenizer, left = tokenizer_of(directory), pads_left(read_json(directory / "config.json"))
    encoded = tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]
    rows = [np.asarray(ids, np.int64) for ids in encoded]
    return Split(rows, None, np.zeros(len(texts), np.int64), tokenizer.pad_token_id, pad_left=left)


def tokenizer_of(directory: Path) -> Any:
    """The tokenizer beside a model.

    Raises:
        UserError: there is none, or it cannot be loaded.
    """
    from transformers import AutoTokenizer

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        return AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{directory}: no tokenizer beside the model ({error})") from None
