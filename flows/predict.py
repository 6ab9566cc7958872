"""`secateur predict MODEL TEXT…`: labels, answers or text, by any model of the run or any directory that holds one."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from flows.workspace import PIPELINE, find
from tasks.core.errors import UserError
from tasks.core.files import read_json
from tasks.recipe.load import read

QUALITY = Path("data/evaluate/test/quality.json")
BATCH = 32
WINDOW = 16 * BATCH
"""Lines that are read before they are answered, in batches of like length."""
ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
"""For what may be of several lines, so that each text has one."""
Line = tuple[str, ...]
Answer = Callable[[list[str], int], list[Line]]
"""(lines, number of the first from 1) to what is printed for each, a column each."""


def predict(
    model: str,
    texts: list[str],
    batch_size: int = BATCH,
    window: int | None = None,
    new_tokens: int | None = None,
) -> None:
    """Prints one line per text, in order, with tabs between: label, probability, text.

    A multi-label model prints its labels, each with its probability; one that answers questions takes JSON objects with
    `question` and `context` for texts, and prints answer, probability and question; a causal one goes on with each
    text. Standard input is answered window by window: memory does not grow with it.

    Args:
        model: name of one of the last run's, or a directory.
        texts: none: lines of standard input, without the empty ones.
        batch_size: texts that the model sees at once.
        window: lines read before the first of them is answered; None: `WINDOW`, or 1 where a person types them.
        new_tokens: most tokens that a causal model adds; None: as in the evaluation.

    Raises:
        UserError: there is no such model, it is of no known task, or there is no text.
    """
    import torch

    from flows.answer import answerer

    root = find(Path.cwd()) if not Path(model).is_dir() else Path.cwd()
    directory = locate(root, model)
    torch.set_num_threads(threads_of(root))
    answer = answerer(directory, batch_size, new_tokens)
    lines = texts or (line.rstrip("\n") for line in sys.stdin if line.strip())
    found = 0
    for answered in stream(lines, answer, window or (1 if sys.stdin.isatty() else WINDOW)):
        for line in answered:
            print(*line, sep="\t")
        sys.stdout.flush()
        found += len(answered)
    if not found:
        raise UserError("no text; give texts as arguments, or lines on standard input")


def stream(lines: Iterable[str], answer: Answer, window: int) -> Iterator[list[Line]]:
    """Answers to `window` lines at a time, in their order; no more lines than these are read ahead."""
    left, first = iter(lines), 1
    while given := list(islice(left, window)):
        yield answer(given, first)
        first += len(given)


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
        found = read_json(root / QUALITY)
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return {name: facts["path"] for name, facts in found["models"].items()}


def threads_of(root: Path) -> int:
    """CPU threads that the workspace's recipe wants; all cores where there is none."""
    wanted = read(root / PIPELINE).threads if (root / PIPELINE).is_file() else 0
    return wanted or len(os.sched_getaffinity(0))
