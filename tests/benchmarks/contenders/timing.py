"""Times every artefact in one process of `.venv-bench`, in turns, and keeps the raw figures.

    python -m contenders.timing STEPS BUSY SEED…

A session is one set of artefacts. What it has measured is kept pass by pass, so one that was cut off goes on; another
set of artefacts is another session, since only what was measured side by side can be compared.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contenders.make import LINE, place
from contenders.registry import CONTENDERS
from contenders.run import call, lines
from contenders.settings import THREADS, prepared, results
from tasks.text.data import Batch

FILE = "contenders-times.jsonl"
PASSES, TEXTS, BATCHES, WARM_UP = 7, 48, 4, 3
IDLE = 0.1
"""What may be busy of the machine before a session begins."""


def time_all(seeds: Sequence[int], steps: int, *, busy: bool) -> None:
    """Goes on with the session of all artefacts that are there, or begins it."""
    call(["contenders.timing", str(steps), str(int(busy)), *map(str, seeds)], own=False, check=True)


def main(steps: int, busy: bool, seeds: Sequence[int]) -> None:
    """Memory of each artefact in a process of its own, profiles and rate, then the passes."""
    from contenders.machine import machine

    there, file = artefacts(seeds, steps), results(steps) / FILE
    found = lines(file)
    hashes = {name: json.loads((directory / LINE).read_text())["hash"] for name, directory in there.items()}
    if not found or found[0]["artefacts"] != hashes:
        found = [{"kind": "session", "artefacts": hashes, **machine(THREADS)}]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found[0]) + "\n")
    _memory(there, prepared(steps), {line["name"] for line in found if line["kind"] == "memory"}, min(seeds), file)
    if sum(line["kind"] == "pass" for line in found) < PASSES * len(there):
        _session(there, prepared(steps), found, file, busy=busy)


def artefacts(seeds: Sequence[int], steps: int) -> dict[str, Path]:
    """By `contender point seed`, those that are there."""
    return {
        f"{name} {point} {seed}": place(name, point, seed, steps)
        for seed in seeds
        for name, contender in CONTENDERS.items()
        for point in contender.points
        if (place(name, point, seed, steps) / LINE).is_file()
    }


def _memory(there: dict[str, Path], rows: Path, known: set[str], seed: int, file: Path) -> None:
    """Of the first seed's artefacts; those of other seeds have the same shapes, or nearly."""
    for name, directory in there.items():
        if name.endswith(f" {seed}") and name not in known:
            ended = call(["contenders.memory", str(directory), str(rows)], own=False, check=True, capture=True)
            _keep({"kind": "memory", "name": name, "bytes": int(ended.stdout.split()[-1])}, file)


def _session(there: dict[str, Path], rows: Path, found: list[dict[str, Any]], file: Path, *, busy: bool) -> None:
    import torch

    from contenders import machine
    from contenders.opening import open_artefact
    from contenders.profile import profile
    from contenders.rate import Rate
    from tasks.modeling.inference import GRAPH
    from tasks.text.data import read_split

    torch.set_num_threads(THREADS)
    others = machine.busy()
    if others > IDLE and not busy:
        sys.exit(f"{others:.0%} of this machine is busy with something else; stop that, or add --busy")
    opened, batches = {}, {}
    for name, directory in there.items():
        split = read_split(rows, "test", directory)
        batches[name] = (
            [split.batch([row]) for row in range(TEXTS)],
            [split.batch(range(start, start + 32)) for start in range(0, 32 * BATCHES, 32)],
        )
        opened[name] = open_artefact(directory, THREADS)
        for batch in (*batches[name][0], *batches[name][1]):  # every shape once: some tools compile for each
            opened[name](batch)
        print(f"\ropened {len(opened)} of {len(there)}", end="", flush=True)
    print()
    full = batches[next(iter(there))][1]
    rate = Rate(sum(batch["input_ids"].size for batch in full) // BATCHES, THREADS)
    profiled = {line["name"] for line in found if line["kind"] == "profile"}
    for name, directory in there.items():
        if (directory / GRAPH).is_file() and name not in profiled:
            told = profile(directory, batches[name][1], THREADS)
            _keep({"kind": "profile", "name": name, **told}, file)
    for number in range(sum(line["kind"] == "rate" for line in found), PASSES):
        others, measured = machine.busy(), []
        order = list(there) if number % 2 == 0 else list(there)[::-1]
        for name in order:
            one, many = _timed(opened[name], batches[name][0], WARM_UP), _timed(opened[name], batches[name][1], 1)
            measured.append({"kind": "pass", "pass": number, "name": name, "b1": one, "b32": many})
            print(f"\rpass {number + 1} of {PASSES}: {len(measured)} of {len(there)}", end="", flush=True)
        measured.append({"kind": "rate", "pass": number, "int8": rate.measure(), "busy": round(others, 3)})
        with file.open("a") as kept:
            kept.write("".join(json.dumps(line) + "\n" for line in measured))
    print()


def _timed(run: Any, batches: Sequence[Batch], warm_up: int) -> list[float]:
    """Milliseconds of each batch."""
    for batch in batches[:warm_up]:
        run(batch)
    times = []
    for batch in batches:
        start = time.perf_counter()
        run(batch)
        times.append(round(1000 * (time.perf_counter() - start), 3))
    return times


def _keep(line: dict[str, Any], file: Path) -> None:
    with file.open("a") as kept:
        kept.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), bool(int(sys.argv[2])), [int(seed) for seed in sys.argv[3:]])
