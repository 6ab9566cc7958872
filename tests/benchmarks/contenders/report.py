"""The page of the benchmark: every table and the settings, beside the raw figures."""

from collections.abc import Sequence
from typing import Any

from contenders import run, table, timing
from contenders.figures import chosen, figures, points
from contenders.picture import draw
from contenders.registry import CONTENDERS, DENSE, INT8, OURS
from contenders.settings import RATE, STEPS, THREADS, results

PAGE, PICTURE = "contenders.md", "contenders.png"


def report(seeds: Sequence[int], steps: int) -> str:
    """Writes the page and the picture of what is there, and returns the page."""
    made, timed = run.lines(results(steps) / run.FILE), run.lines(results(steps) / timing.FILE)
    order = [(name, point) for name, contender in CONTENDERS.items() for point in contender.points]
    made = [line for line in made if (line["contender"], line["point"]) in order]
    made.sort(key=lambda line: order.index((line["contender"], line["point"])))
    base, int8 = " ".join(DENSE), " ".join(INT8)
    found = figures(made, timed, base, seeds)
    if base not in found:
        return "nothing is made yet"
    dense = found[base]
    parts = [_opening(timed, seeds, steps), table.every_point(found.values(), dense)]
    if dense.speedups:
        starting = [name for name, contender in CONTENDERS.items() if contender.from_int8]
        fronts = [points(found.values(), batch, found.get(int8), starting) for batch in (0, 1)]
        draw(fronts, OURS, dense.test, results(steps) / PICTURE)
        best = {drop: chosen(found.values(), dense, drop) for drop in (0.01, 0.02)}
        for drop, ones in best.items():
            parts += [f"## Chosen on validation: the fastest that loses at most {100 * drop:.0f} points there"]
            parts.append(table.best_within(ones, dense))
        parts += ["## At equal accuracy, on each contender's own front"]
        parts += [table.at_equal_accuracy(fronts, OURS, dense.test)]
        ours = {one.name for ones in best.values() for name, one in ones.items() if name == OURS}
        names = [f"{name} {min(seeds)}" for name in (int8, *sorted(ours | {f"{OURS} dense"}))]
        parts += ["## Int8 at batch 32", table.int8_share(timed, names)]
    parts += ["## Settings", _settings(made), _failures(made, seeds)]
    page = "\n\n".join(part for part in parts if part) + "\n"
    (results(steps) / PAGE).write_text(page)
    return page


def _opening(timed: Sequence[dict[str, Any]], seeds: Sequence[int], steps: int) -> str:
    said = (
        f"MiniLM-L6 on Rotten Tomatoes, {len(seeds)} seeds; a budget of {steps} optimiser steps of 32 rows for every "
        "contender. Speed-ups are against dense PyTorch fp32 of the same seed and session, on test texts as they are; "
        "peak memory is what opening the artefact and a batch of the 32 longest texts add to a process."
    )
    if not timed:
        return f"# Secateur against other tools\n\n{said}\n\nNothing is timed yet."
    facts = timed[0]
    versions = ", ".join(f"{name} {number}" for name, number in facts["packages"].items())
    busy = max((line["busy"] for line in timed if line["kind"] == "rate"), default=0.0)
    passes = sum(line["kind"] == "rate" for line in timed)
    machine = (
        f"{facts['processor']} ({', '.join(facts['instructions'])}), {facts['cores']} cores, {THREADS} threads, Python "
        f"{facts['python']}; {versions}; {facts['date']}. Medians of {passes} alternating passes over all artefacts in "
        f"one process; at most {busy:.0%} of the machine was busy with something else."
    )
    return f"# Secateur against other tools\n\n{said}\n\n{machine}\n\n![quality against speed]({PICTURE})"


def _settings(made: Sequence[dict[str, Any]]) -> str:
    versions = {line["contender"]: line["packages"] for line in made if "packages" in line}
    common = f"Common: batches of 32, gradient norm 1, learning rate {RATE:g} unless said, {STEPS} steps if any, "
    common += "in bf16 where the processor is made for it (nncf: float32)."
    rows = [
        f"- **{name}** ({', '.join(f'{p} {v}' for p, v in versions.get(name, {}).items())}): {contender.settings}"
        for name, contender in CONTENDERS.items()
    ]
    return "\n".join([common, "", *rows])


def _failures(made: Sequence[dict[str, Any]], seeds: Sequence[int]) -> str:
    failed = [line for line in made if "error" in line and line["seed"] in seeds]
    rows = [f"- {line['contender']} {line['point']}, seed {line['seed']}: {line['error']}" for line in failed]
    return "\n".join(["## What failed", "", *rows]) if rows else ""
