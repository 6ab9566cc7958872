"""MiniLM on SQuAD through `secateur run minilm-squad`: exact match and F1 of dense and compressed on test.

    SECATEUR_DATA=… python tests/benchmarks/squad.py            # an hour on a core; goes on where it stopped
    python tests/benchmarks/squad.py --table

On the first questions of each split, by hash. The scores are computed once more from the same answers by the rules of
the official script as transformers has them. The workspace is a clone of what is committed, in .secateur/benchmarks;
raw figures go to tests/benchmarks/results/squad.jsonl.
"""

import argparse
import os
from pathlib import Path
from types import SimpleNamespace

import loop
import pyarrow.parquet as pq
import raw
from transformers.data.metrics.squad_metrics import get_raw_scores

RESULTS = raw.RESULTS / "squad.jsonl"
SETTINGS = [
    "data.limit=3000", "train.epochs=2", "distill.enabled=false", "quantize.models=[dense, pruned]",
    "quantize.methods=[dynamic]", "quantize.verification_rows=128", "evaluate.repeats=1",
]  # fmt: skip


def main() -> None:
    """Runs the recipe if it was not, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only print what is there")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as there are cores")
    given = parser.parse_args()
    if not given.table and "squad" not in loop.lines(RESULTS):
        root = loop.workspace("squad")
        source = Path(os.environ["SECATEUR_DATA"], "squad").resolve()
        loop.secateur(root, "minilm-squad", [*SETTINGS, f"data.source={source}", f"threads={given.threads}"])
        raw.add(RESULTS, {"run": "squad", **loop.outcome(root), "official": official(root)})
    for line in loop.lines(RESULTS).values():
        print(table(line))


def official(root: Path) -> dict[str, dict[str, float]]:
    """By model, of the answers that the run wrote down."""
    answers = pq.read_table(root / "data/evaluate/test/predictions.parquet").to_pydict()
    examples = [
        SimpleNamespace(qas_id=name, answers=[{"text": text} for text in true])
        for name, true in zip(answers.pop("id"), answers.pop("answers"), strict=True)
    ]
    found = {}
    for model, texts in answers.items():
        said = {example.qas_id: text for example, text in zip(examples, texts, strict=True)}
        exact, overlap = (list(scores.values()) for scores in get_raw_scores(examples, said))
        found[model] = {"exact_match": sum(exact) / len(exact), "f1": sum(overlap) / len(overlap)}
    return found


def table(line: dict) -> str:
    """One line a model, as Markdown."""
    states = {verdict["round"]: verdict["state"] for verdict in line["rounds"]}
    out = ["| model | verdict | parameters | EM | F1 | EM, F1 by the official rules |", "|---" * 6 + "|"]
    for model, facts in line["models"].items():
        own, other = facts["metrics"], line["official"][model]
        cells = [model, states.get(model, ""), f"{facts['parameters']:,}"]
        cells += [f"{100 * own['exact_match']:.2f}", f"{100 * own['f1']:.2f}"]
        out.append("| " + " | ".join([*cells, ", ".join(f"{100 * value:.2f}" for value in other.values())]) + " |")
    return "\n".join(out)


if __name__ == "__main__":
    main()
