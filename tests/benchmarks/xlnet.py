"""A small XLNet, from scratch, on Rotten Tomatoes: `secateur run xlnet-rt` until its budget breaks, by three criteria.

    python tests/benchmarks/xlnet.py            # about 30 minutes on a core; goes on where it stopped
    python tests/benchmarks/xlnet.py --table

Then gates with three penalties (L0). The last good round is read again where Secateur cannot be imported, tokenizer
and all. The workspace is a clone of what is committed, in .secateur/benchmarks/xlnet; raw figures go to
tests/benchmarks/results/xlnet.jsonl, a line a run.
"""

import argparse
from collections import Counter
from pathlib import Path

import loop
import raw
import torch
from tokenizers import processors
from transformers import XLNetConfig, XLNetForSequenceClassification

from tasks.prepare.read import read
from tasks.prepare.rows import clean
from tasks.prepare.split import arrange
from tasks.recipe.load import resolve
from tasks.sources import cache_dir, fetch
from tasks.text.tokenizers_from_text import EOS, train

RESULTS = raw.RESULTS / "xlnet.jsonl"
SIZES = {"d_model": 128, "n_layer": 4, "n_head": 4, "d_inner": 512, "mem_len": None, "dropout": 0.2}
L0 = [
    "score.criterion=l0", "score.training.learning_rate=3.0e-4", "finetune.epochs=0.25",
    "prune.kinds=[head, neuron]", "prune.rounds=[{head: {threshold: 0.001}, neuron: {threshold: 0.001}}]",
]  # fmt: skip
RUNS = {name: [f"score.criterion={name}"] for name in ("fisher", "gradient", "magnitude")}
RUNS |= {f"l0 {penalty:g}": [*L0, f"score.penalty={penalty}"] for penalty in (0.1, 0.3, 1.0)}
ELSEWHERE = """
import pandas, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
rows = pandas.read_parquet(sys.argv[2])
right = 0
with torch.no_grad():
    for start in range(0, len(rows), 64):
        part = rows[start : start + 64]
        batch = tokenizer(part.text.tolist(), padding=True, truncation=True, max_length=64, return_tensors="pt")
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        right += int((logits.argmax(-1).numpy() == part.label.to_numpy()).sum())
print(right / len(rows))
"""


def main() -> None:
    """Runs what is not there yet and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only print what is there")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as there are cores")
    given = parser.parse_args()
    if not given.table:
        root = prepare()
        for name in RUNS:
            if name not in loop.lines(RESULTS):
                measure(root, name, given.threads)
    print(table(loop.lines(RESULTS)))


def prepare() -> Path:
    """The workspace, and the model in it."""
    root = loop.workspace("xlnet")
    out = root / "xlnet-small"
    if (out / "model.safetensors").is_file():
        return root
    recipe = resolve(Path("xlnet-rt"), [])
    rows = clean(read(fetch(recipe.data.source, cache_dir(), root, "data"), recipe.data, labelled=True), recipe.data)
    texts = [row.text for row in arrange(rows.splits, recipe.data, 0, Counter())["train"]]
    tokenizer = train(texts, 4096, out)
    end = tokenizer.eos_token_id
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {EOS}", special_tokens=[(EOS, end)]
    )
    tokenizer.save_pretrained(out)
    ids = {"vocab_size": len(tokenizer), "bos_token_id": end, "eos_token_id": end}
    torch.manual_seed(0)
    config = XLNetConfig(**SIZES, **ids, pad_token_id=tokenizer.pad_token_id)
    XLNetForSequenceClassification(config).save_pretrained(out)
    return root


def measure(root: Path, name: str, threads: int) -> None:
    """Runs the recipe and adds a line to the raw figures."""
    loop.secateur(root, "xlnet-rt", [*RUNS[name], f"threads={threads}"])
    line = {"run": name, **loop.outcome(root)}
    if line["kept"]:
        line["elsewhere"] = loop.elsewhere(
            ELSEWHERE, root / "models/rounds" / line["kept"], root / "data/prepared/test.parquet"
        )
    if name.startswith("l0"):
        line["gates"] = loop.read(root / "data/scores/r1/training.json")["gates"][-1]
    raw.add(RESULTS, line)


def table(found: dict[str, dict]) -> str:
    """One line a model, as Markdown."""
    out = ["| run | model | verdict | parameters | accuracy, validation | test | elsewhere |", "|---" * 7 + "|"]
    for name, line in found.items():
        states = {verdict["round"]: verdict["state"] for verdict in line["rounds"]}
        for model, facts in line["models"].items():
            kept = model == line["kept"]
            cells = [name, f"**{model}**" if kept else model, states.get(model, ""), f"{facts['parameters']:,}"]
            cells += [f"{facts['validation_quality']:.3f}", f"{facts['quality']:.3f}"]
            out.append("| " + " | ".join([*cells, f"{line['elsewhere']:.3f}" if kept else ""]) + " |")
    return "\n".join(out)


if __name__ == "__main__":
    main()
