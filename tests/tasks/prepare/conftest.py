import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from prepare_examples import make_data
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertTokenizerFast

from tasks.prepare import prepare
from tasks.recipe.schema import METRICS, Model, Task

WORDS = ("a", "film", "is", "good", "bad", "dull", "fine", "plot", "actor", "the", "very", "not", "story", "number")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "network: needs the package index")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tokenizer of a few words, letters and digits."""
    directory = tmp_path_factory.mktemp("model")
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *letters, *(f"##{c}" for c in letters)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    BertTokenizerFast(tokenizer_object=tokenizer).save_pretrained(directory)
    (directory / "config.json").write_text(
        '{"model_type": "bert", "vocab_size": %d, "max_position_embeddings": 64}' % len(vocabulary)  # noqa: UP031
    )
    return directory


@pytest.fixture
def run(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Prepares `tmp_path/data.csv`, or what `source` says, and returns the out directory."""
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "cache"))

    def call(
        out: str = "out",
        *,
        model: str | None = None,
        max_length: int = 16,
        seed: int = 0,
        type: Literal["classification", "multilabel", "qa"] = "classification",  # noqa: A002
        no_answer: bool = False,
        **changes: Any,
    ) -> Path:
        directory = tmp_path / out
        directory.mkdir(parents=True)
        settings = {"metric": METRICS[type][0], "max_length": max_length, "doc_stride": 4, "max_answer": 8}
        task = Task(type=type, no_answer=no_answer, **settings)
        source = os.path.relpath(tiny_model, tmp_path) if model is None else model
        prepare(make_data(**changes), task, Model(source=source), seed, tmp_path, directory)
        return directory

    return call
