"""A workspace with a tiny model and few rows, for the real stages, and the command run in it."""

import csv
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from tests.flows.conftest import REPOSITORY, commit_all

GOOD, BAD = ("good", "fine", "great", "lovely"), ("bad", "dull", "poor", "awful")
PLAIN = ("a", "film", "is", "the", "very", "plot", "actor", "story", "and", "with")
RECIPE = """
name: tiny
model: {source: model}
data: {source: rows.csv}
budget: {max_drop: 0.2, max_flops: 0.55}
task: {max_length: 16}
train: {epochs: 3, learning_rate: 2.0e-3, batch_size: 16, precision: fp32, checkpoint_steps: 5}
finetune: {epochs: 4, learning_rate: 1.0e-3, batch_size: 16, precision: fp32, checkpoint_steps: 5}
distill: {epochs: 6, learning_rate: 1.0e-3, batch_size: 16, precision: fp32, checkpoint_steps: 5}
prune: {rounds: [0.25, 0.5, 0.6], align: 4}
score: {rows: 64, batch_size: 16}
evaluate: {latency_rows: 4, throughput_batches: 1, repeats: 1, bootstrap: 100}
"""


def make_model(directory: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *PLAIN, *map(str, range(300))]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    BertTokenizerFast(tokenizer_object=tokenizer).save_pretrained(directory)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(words), max_position_embeddings=32, **sizes)
    BertForSequenceClassification(config).save_pretrained(directory)


def make_rows(file: Path) -> None:
    choose = random.Random(0)  # noqa: S311
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["text", "label"])
        for number in range(300):
            label = choose.choice(["pos", "neg"])
            words = [*choose.sample(PLAIN, 5), choose.choice(GOOD if label == "pos" else BAD), str(number)]
            choose.shuffle(words)
            writer.writerow([" ".join(words), label])


def make_clone(root: Path) -> Path:
    """What a git clone of this repository has that a run needs."""
    root.mkdir(parents=True)
    for name in ("dvc.yaml", ".dvcignore", ".gitignore", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, root)
    for name in ("tasks", "params"):
        shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(REPOSITORY / ".dvc" / name, root / ".dvc")
    commit_all(root)
    return root


def make_tiny(root: Path) -> Path:
    """A clone with a tiny model, rows and a recipe."""
    make_clone(root)
    make_model(root / "model")
    make_rows(root / "rows.csv")
    (root / "recipe.yaml").write_text(RECIPE)
    commit_all(root)
    return root


def secateur(root: Path, url: str, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", "from flows.cli import main; main()", *words],
        cwd=root,
        env={**os.environ, "PREFECT_API_URL": url, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> str:
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return output
