"""`secateur bench MODEL…`: models side by side on this machine, in turns, in one process."""

from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from flows.predict import WINDOW, locate, names_of, threads_of
from flows.workspace import find
from tasks.core.errors import UserError
from tasks.core.files import read_json, tree_bytes
from tasks.recipe.load import resolve

TOPICS = 256
"""Sentences taken from Python's own manual where the workspace has no prepared data."""


def bench(models: list[str]) -> None:
    """Prints latency, throughput, memory and size; the first model is what the others are compared with.

    `rows/s` is of batches in the order of the texts, `sorted` of batches of like length, as `predict` makes them.

    Texts are the test rows of the workspace, or sentences of Python's manual where there are none.

    Args:
        models: names of the last run's, or directories; none: all of the last run.

    Raises:
        UserError: there is no such model, or no run.
    """
    import torch

    from flows.answer import encode, tokenizer_of
    from tasks.evaluate.timing import measure, peak_memory
    from tasks.modeling.inference import open_model
    from tasks.text.data import pads_left

    root = find(Path.cwd())
    directories = {name: locate(root, name) for name in models or names_of(root)}
    if not directories:
        raise UserError("no models yet; name directories, or make some with: secateur run")
    torch.set_num_threads(threads_of(root))
    texts, longest = _texts(root), resolve(None, []).task.max_length
    splits = {}
    for name, directory in directories.items():
        left = pads_left(read_json(directory / "config.json"))
        splits[name] = encode(tokenizer_of(directory), texts, longest, left=left)
    split = next(iter(splits.values()))
    opened, memory = {}, {}
    for name, directory in directories.items():
        largest = splits[name].batch(split.lengths.argsort()[-32:])
        opened[name], memory[name] = peak_memory(partial(open_model, directory, torch.get_num_threads()), largest)
    figures = measure(opened, splits, resolve(None, []).evaluate, WINDOW)
    table = Table(title=f"{len(split)} texts of {split.lengths.mean():.0f} tokens, {torch.get_num_threads()} threads")
    for heading in ("model", "MB", "p50 ms", "p95 ms", "rows/s", "sorted", "× b1", "× b32", "peak MB"):
        table.add_column(heading, justify="left" if heading == "model" else "right", no_wrap=True)
    for name, found in figures.items():
        peak = memory[name]
        table.add_row(
            name,
            f"{_weights(directories[name]) / 1e6:.1f}",
            f"{found['latency_ms_b1']:.2f}",
            f"{found['latency_ms_b1_p95']:.2f}",
            f"{found['throughput_b32']:.0f}",
            f"{found['throughput_window']:.0f}",
            f"{found['speedup_b1']:.2f}",
            f"{found['speedup_b32']:.2f}",
            "" if peak is None else f"{peak / 1e6:.0f}",
        )
    Console().print(table)


def _weights(directory: Path) -> int:
    """Of what is timed: the graph, where there is one."""
    found = list(directory.glob("*.onnx")) or list(directory.glob("*.safetensors"))
    return sum(map(tree_bytes, found))


def _texts(root: Path) -> list[str]:
    test = root / "data" / "prepared" / "test.parquet"
    if test.is_file():
        import pyarrow.parquet as pq

        return list(pq.read_table(test, columns=["text"])["text"].to_pylist())
    from pydoc_data.topics import topics

    sentences = (part.strip() for text in topics.values() for part in text.replace("\n", " ").split(". "))
    return [sentence for sentence in sentences if 20 < len(sentence) < 300][:TOPICS]
