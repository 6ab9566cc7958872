"""Latency, throughput, tokens a second and memory of several models, measured in turns in one process."""

import gc
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from tasks.core.progress import progress
from tasks.modeling.inference import Forward
from tasks.recipe.schema import Evaluate
from tasks.text.data import Batch, Split
from tasks.text.generate import Tokens

BATCH = 32
TURN = 8
"""Texts that a model is timed on before it is another one's turn, where many differ little."""


def measure(
    models: Mapping[str, Forward], splits: Mapping[str, Split], settings: Evaluate, window: int = 0
) -> dict[str, dict[str, float]]:
    """Times every model on the same rows, as they are, in alternating passes.

    Args:
        models: the first is what the others are compared with.
        splits: by model, the rows in the ids of its vocabulary.
        window: so many first rows are timed in batches of like length too; 0: none.

    Returns:
        By model: `latency_ms_b1` (median over texts and passes) and `latency_ms_b1_p95`, `throughput_b32` (rows a
        second, of the median batch), `speedup_b1` and `speedup_b32` (ratios of medians to the first model's); with a
        window `throughput_window` (rows a second, of the median pass over it).
    """
    first = next(iter(models))
    count = len(splits[first])
    batches = {name: _parts(splits[name], settings) for name in models}
    alike = {name: _alike(splits[name], window) for name in models}
    seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in models}
    windows: dict[str, list[float]] = {name: [] for name in models}
    for number in range(settings.repeats):
        for done, (name, run) in enumerate(models.items()):
            for times, part, warm_up in zip(seconds[name], batches[name], (3, 1), strict=True):
                times += _timed(run, part, warm_up)
            windows[name].append(sum(_timed(run, alike[name], min(window, 1))))
            progress("model", number * len(models) + done + 1, settings.repeats * len(models))
    rows = min(settings.throughput_batches * BATCH, count) / len(batches[first][1])
    base_b1, base_b32 = (float(np.median(times)) for times in seconds[first])
    figures = {}
    for name, (b1, b32) in seconds.items():
        figures[name] = {
            "latency_ms_b1": 1000 * float(np.median(b1)),
            "latency_ms_b1_p95": 1000 * float(np.percentile(b1, 95)),
            "throughput_b32": rows / float(np.median(b32)),
            "speedup_b1": base_b1 / float(np.median(b1)),
            "speedup_b32": base_b32 / float(np.median(b32)),
        }
        if window:
            figures[name]["throughput_window"] = min(window, count) / float(np.median(windows[name]))
    return figures


def least(models: Mapping[str, Forward], split: Split, settings: Evaluate) -> dict[str, list[float]]:
    """Times many models that differ little: seconds of a text alone, and of a batch of 32.

    They take turns after every few texts, in either order, so that the machine's pace is the same for all; of each text
    the least of all passes counts, not the cold ones, four times as many as are usual, then the median over texts.
    """
    passes = 4 * settings.repeats
    texts, full = _parts(split, settings)
    turns = [(texts[start : start + TURN], 1) for start in range(0, len(texts), TURN)] + [([one], 0) for one in full]
    seconds: dict[str, list[list[float]]] = {name: [] for name in models}
    for number in range(passes):
        passed: dict[str, list[float]] = {name: [] for name in models}
        for part, warm_up in turns:
            for name in models if number % 2 == 0 else reversed(list(models)):
                passed[name] += _timed(models[name], part, warm_up)
        for name, times in passed.items():
            seconds[name].append(times)
        progress("pass", number + 1, passes)
    lows = {name: np.split(np.min(times, axis=0), [len(texts)]) for name, times in seconds.items()}
    return {name: [float(np.median(low)) for low in both] for name, both in lows.items()}


@torch.inference_mode()
def generation_speed(
    models: Mapping[str, PreTrainedModel], prompts: Mapping[str, Tokens], new_tokens: int, repeats: int
) -> dict[str, dict[str, float]]:
    """Times how every model reads a prompt and goes on with it, greedily, one text at a time, in alternating passes.

    Args:
        models: causal ones.
        prompts: by model, the tokens it reads, shape (tokens,).
        new_tokens: tokens it adds, one after another, each seen by the next with the cache.
        repeats: passes that count; one more warms up.

    Returns:
        By model: `prefill_tokens_s` (of the prompt, with the first new token) and `decode_tokens_s` (those after it).
    """
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    for _ in range(repeats + 1):
        for name, model in models.items():
            start = time.perf_counter()
            ids = torch.from_numpy(prompts[name])[None].to(model.device)
            found = model(input_ids=ids, use_cache=True, logits_to_keep=1)
            token = found.logits[:, -1:].argmax(-1)
            token.cpu()  # waits for a GPU
            read = time.perf_counter()
            for _ in range(new_tokens):
                found = model(input_ids=token, past_key_values=found.past_key_values, use_cache=True)
                token = found.logits[:, -1:].argmax(-1)
            token.cpu()
            seconds[name].append((read - start, time.perf_counter() - read))
    medians = {name: np.median(times[1:], axis=0) for name, times in seconds.items()}
    return {
        name: {"prefill_tokens_s": len(prompts[name]) / float(first), "decode_tokens_s": new_tokens / float(rest)}
        for name, (first, rest) in medians.items()
    }


def peak_memory(open_it: Callable[[], Forward], batch: Batch) -> tuple[Forward, int | None]:
    """Opens a model and runs one batch; with the resident memory this added at its peak, in bytes.

    None where the system does not tell (it needs Linux's /proc).
    """
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    gc.collect()
    try:
        before = _kilobytes(status, "VmRSS:")
        reset.write_text("5")
    except OSError:
        run = open_it()
        run(batch)
        return run, None
    run = open_it()
    run(batch)
    return run, 1024 * max(0, _kilobytes(status, "VmHWM:") - before)


def _parts(split: Split, settings: Evaluate) -> tuple[list[Batch], list[Batch]]:
    """The first rows, as they are: one by one, and in batches of 32."""
    texts, rows = (min(count, len(split)) for count in (settings.latency_rows, settings.throughput_batches * BATCH))
    full = [split.batch(range(start, min(start + BATCH, rows))) for start in range(0, rows, BATCH)]
    return [split.batch([row]) for row in range(texts)], full


def _alike(split: Split, window: int) -> list[Batch]:
    """The first `window` rows in batches of like length."""
    first = split.take(range(min(window, len(split))))
    return [first.batch(rows) for rows in first.by_length(BATCH)]


def _timed(run: Forward, batches: list[Batch], warm_up: int) -> list[float]:
    for batch in batches[:warm_up]:
        run(batch)
    times = []
    for batch in batches:
        start = time.perf_counter()
        run(batch)
        times.append(time.perf_counter() - start)
    return times


def _kilobytes(status: Path, key: str) -> int:
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(key))
