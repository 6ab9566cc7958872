"""Which test examples a compressed model answers otherwise than the dense one."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tasks.text.squad import exact_match, normalise

SHOWN = 20
EXCERPT = 200
"""Characters."""
ANSWER, NOTHING = "an answer", "no answer"


@dataclass(frozen=True)
class Judge:
    """How answers of a type of task compare."""

    truth: str
    """The column that says what is right."""
    right: Callable[[Any, Any], bool]
    """(answer, truth)"""
    same: Callable[[Any, Any], bool]
    """Of two answers."""
    named: Callable[[Any, Sequence[str]], Any]
    """(answer, labels) as it is shown."""
    state: Callable[[Any, Sequence[str]], list[str]]
    """(answer, labels) to the classes it names; of question answering whether there is an answer."""


JUDGES = {
    "classification": Judge(
        "label",
        lambda answer, truth: answer == truth,
        lambda one, other: one == other,
        lambda answer, labels: labels[answer],
        lambda answer, labels: [labels[answer]],
    ),
    "multilabel": Judge(
        "labels",
        lambda answer, truth: set(answer) == set(truth),
        lambda one, other: set(one) == set(other),
        lambda answer, labels: [labels[number] for number in answer],
        lambda answer, labels: [labels[number] for number in answer],
    ),
    "qa": Judge(
        "answers",
        lambda answer, truth: exact_match(answer, truth) == 1.0,
        lambda one, other: normalise(one) == normalise(other),
        lambda answer, _: answer,
        lambda answer, _: [
            ANSWER if (any(map(normalise, answer)) if isinstance(answer, list) else answer) else NOTHING
        ],
    ),
}
"""By type of task; what a causal model says is no answer."""


def against(models: Sequence[Mapping[str, Any]], best: str | None) -> str | None:
    """The model to compare with dense: the best, or, if that is the dense one, what lost least on validation."""
    others = [model for model in models if model["name"] != "dense"]
    if best not in {None, "dense"} or not others:
        return best if others else None
    return str(min(others, key=lambda model: model["validation_drop"])["name"])


def changed(task: str, labels: Sequence[str], predictions: Path, model: str | None) -> dict[str, Any] | None:
    """Counts by class, and every test example whose answer changed, by its place in the split.

    A change is `fixed` (wrong before, right now), `broken` (the other way round) or `other` (both wrong, or both right
    in other words). `confusion` counts changes by the dense model's answer, then the compressed one's, where an example
    has one class. Right and same are meant as the metric does: of questions, in normal form.

    Args:
        task: type of task.
        labels: names of the classes, by number.
        predictions: predictions.parquet, what is right and a column for each model.
        model: name of the compressed one.
    """
    judge = JUDGES.get(task)
    if judge is None or model is None or not predictions.is_file():
        return None
    names = ["id"] if task == "qa" else []
    table = pq.read_table(predictions, columns=[*names, judge.truth, "dense", model]).to_pydict()
    rows = list(zip(table[judge.truth], table["dense"], table[model], strict=True))
    examples = []
    for index, (truth, before, after) in enumerate(rows):
        if judge.same(before, after):
            continue
        was, now = judge.right(before, truth), judge.right(after, truth)
        entry = {"index": index, "change": "other" if was == now else "broken" if was else "fixed"}
        entry |= {"truth": truth if task == "qa" else judge.named(truth, labels)}
        entry |= {"dense": judge.named(before, labels), "compressed": judge.named(after, labels)}
        examples.append(entry | {name: table[name][index] for name in names})
    counts = Counter(entry["change"] for entry in examples)
    classes = [ANSWER, NOTHING] if task == "qa" else list(labels)
    states = [[judge.state(answer, labels) for answer in row] for row in rows]
    return {
        "model": model,
        "rows": len(rows),
        "changed": len(examples),
        **{change: counts[change] for change in ("fixed", "broken", "other")},
        "classes": [_class(name, states, examples, single=task != "multilabel") for name in classes],
        "confusion": None if task == "multilabel" else _confusion(classes, states, examples),
        "examples": examples,
    }


def excerpts(prepared: Path, rows: Sequence[int], split: str = "test") -> list[str]:
    """Beginnings of the texts of the given examples of a split; of pairs both, of questions the question."""
    path = prepared / f"{split}.examples.parquet"
    path = path if path.is_file() else prepared / f"{split}.parquet"
    there = pq.read_schema(path).names
    columns = [name for name in ("question", "text", "text_pair") if name in there]
    taken = pq.read_table(path, columns=columns).take(list(rows)).to_pylist()
    return [" | ".join(_cut(row[name]) for name in columns if row[name] is not None) for row in taken]


def _cut(text: str) -> str:
    short = " ".join(text[: 4 * EXCERPT].split())
    return short if len(short) <= EXCERPT else short[:EXCERPT].rstrip() + "…"


def _class(
    name: str, states: Sequence[Sequence[Sequence[str]]], examples: Sequence[Mapping[str, Any]], *, single: bool
) -> dict[str, Any]:
    """Of a class: its rows, and what became of them; of a label (not `single`) of all rows, by this label alone."""
    facts = {"class": name, "rows": sum(name in truth for truth, _, _ in states)}
    if single:
        counts = Counter(entry["change"] for entry in examples if name in states[entry["index"]][0])
        return {**facts, **{change: counts[change] for change in ("fixed", "broken", "other")}}
    flips = [(name in truth, name in before) for truth, before, after in states if (name in before) != (name in after)]
    broken = sum(true == before for true, before in flips)
    return {**facts, "fixed": len(flips) - broken, "broken": broken, "other": 0}


def _confusion(
    classes: Sequence[str], states: Sequence[Sequence[Sequence[str]]], examples: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    pairs = Counter((states[entry["index"]][1][0], states[entry["index"]][2][0]) for entry in examples)
    return {"classes": list(classes), "counts": [[pairs[one, other] for other in classes] for one in classes]}
