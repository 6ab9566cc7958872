"""The prepare stage: fetch, clean, split and tokenise the data."""

from pathlib import Path

from tasks.core.files import tree_hash, write_json
from tasks.prepare.check import check
from tasks.prepare.read import read
from tasks.prepare.rows import clean
from tasks.prepare.split import arrange, overlap
from tasks.recipe.schema import Data, Model, Task
from tasks.sources import cache_dir, fetch, is_local

REASONS = ("unlabelled", "other_labels", "empty", "duplicates", "leaked", "limit")


def prepare(data: Data, task: Task, model: Model, seed: int, root: Path, out: Path) -> None:
    """Writes train.parquet, validation.parquet, test.parquet, tokenizer/ and data.json to `out`.

    Everything is checked before anything is written.

    Args:
        data: where the data are, which columns, how to split.
        task: for `max_length`, in tokens.
        model: whose tokenizer to use.
        seed: of the choice of `data.limit`; the splits do not depend on it.
        root: what relative paths start from.
        out: an empty directory.

    Raises:
        UserError: anything wrong with the data or the sources; one message.
        EnvironmentFault: network or disk failed.
    """
    source = fetch(data.source, cache_dir(), root, "data")
    tables = read(source, data)
    given = clean(tables, data)
    dropped = given.dropped
    splits = arrange(given.splits, data, seed, dropped)
    check(splits, given.splits, given.classes, dropped, data)

    from tasks.prepare import tokens, write  # costs seconds; mistakes in the data show at once

    home = fetch(model.source, cache_dir(), root, "model")
    tokenizer = tokens.load(home, task.max_length, pairs=data.text_pair is not None)
    encoded = {name: tokens.encode(tokenizer, rows, task.max_length, name) for name, rows in splits.items()}
    tokens.check_vocabulary(home, list(encoded.values()))

    tokenizer.save_pretrained(out / "tokenizer")
    for name, rows in splits.items():
        write.write_split(out / f"{name}.parquet", rows, encoded[name])
    facts = {
        "labels": given.classes,
        "pad_token_id": tokenizer.pad_token_id,
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
