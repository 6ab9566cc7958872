"""The prepare stage: fetch, clean, split and tokenise the data."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from tasks.core.files import tree_hash, write_json
from tasks.prepare.check import check
from tasks.prepare.read import read
from tasks.prepare.rows import Clean, clean, clean_documents, clean_many
from tasks.prepare.split import arrange, overlap
from tasks.prepare.squad import clean_questions
from tasks.prepare.table import Table
from tasks.recipe.schema import Data, Model, Task
from tasks.sources import cache_dir, fetch, is_local

CLEAN: dict[str, Callable[[Mapping[str, Table], Data, Task], Clean]] = {
    "classification": lambda tables, data, _: clean(tables, data),
    "multilabel": lambda tables, data, _: clean_many(tables, data),
    "qa": clean_questions,
    "generation": lambda tables, data, _: clean_documents(tables, data),
}
"""How the rows of a type of task are made."""
SUMMARISED = ("classification", "multilabel")
"""Types of task whose models read one place of a row."""
REASONS = ("unlabelled", "other_labels", "empty", "duplicates", "leaked", "limit")


def prepare(data: Data, task: Task, model: Model, seed: int, root: Path, out: Path) -> None:
    """Writes train.parquet, validation.parquet, test.parquet, tokenizer/ and data.json to `out`.

    Everything is checked before anything is written.

    Args:
        data: where the data are, which columns, how to split.
        task: what rows are, and their `max_length` in tokens.
        model: whose tokenizer to use.
        seed: of the choice of `data.limit`; the splits do not depend on it.
        root: what relative paths start from.
        out: an empty directory.

    Raises:
        UserError: anything wrong with the data or the sources; one message.
        EnvironmentFault: network or disk failed.
    """
    source = fetch(data.source, cache_dir(), root, "data")
    generation = task.type == "generation"
    tables = read(source, data, labelled=not generation)
    given = CLEAN[task.type](tables, data, task)
    dropped = given.dropped
    splits = arrange(given.splits, data, seed, dropped)
    check(splits, given.splits, given.classes, dropped, data)

    from tasks.prepare import documents, tokens, windows, write  # costs seconds; mistakes in the data show at once
    from tasks.text.data import pads_left

    home = fetch(model.source, cache_dir(), root, "model")
    left = task.type in SUMMARISED and pads_left(tokens.config_of(home))
    tokenizer = tokens.load(home, task.max_length, pairs=data.text_pair is not None, pads=not generation, left=left)
    by_type: dict[str, Callable[..., tokens.Tokens]] = {
        "qa": partial(windows.encode, stride=task.doc_stride),
        "generation": partial(documents.encode, shared=task.doc_stride),
    }
    encode: Callable[..., tokens.Tokens] = by_type.get(task.type, tokens.encode)
    encoded = {name: encode(tokenizer, rows, task.max_length, name) for name, rows in splits.items()}
    tokens.check_vocabulary(home, list(encoded.values()))

    tokenizer.save_pretrained(out / "tokenizer")
    for name, rows in splits.items():
        write.write_split(out / f"{name}.parquet", rows, encoded[name], len(given.classes))
    facts = {
        "task": task.model_dump(mode="json"),
        "labels": given.classes,
        "pad_token_id": tokenizer.pad_token_id,
        "pad_left": left,
        "splits": {
            name: write.describe(rows, encoded[name], given.classes, task.max_length) for name, rows in splits.items()
        },
        "source": {
            "uri": _public(data.source),
            "sha256": tree_hash(source),
            "rows": sum(len(table) for table in tables.values()),
        },
        "dropped": {reason: dropped[reason] for reason in REASONS},
        "overlap": overlap(splits),
    }
    write_json(out / "data.json", facts)


def _public(uri: str) -> str:
    """A source for a record: an absolute path shows only its last part."""
    return Path(uri).name if is_local(uri) and Path(uri).is_absolute() else uri
