import itertools
import os
import pydoc_data.topics
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tasks.core.errors import UserError
from tasks.core.files import tree_hash
from tasks.text.tokenizers_from_text import EOS, PAD, SMALLEST, train

TEXT = [pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics)[:6]]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    out = tmp_path_factory.mktemp("tokenizer")
    train(TEXT, 400, out)
    return AutoTokenizer.from_pretrained(out)


@settings(deadline=None)
@given(st.text())
def test_any_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_it_has_the_size_asked_for_and_its_special_tokens(tokenizer):
    assert len(tokenizer) == 400
    assert (tokenizer.eos_token, tokenizer.bos_token, tokenizer.pad_token) == (EOS, EOS, PAD)
    assert tokenizer(EOS)["input_ids"] == [0]


def test_the_first_merge_is_the_most_frequent_pair_of_bytes(tokenizer):
    pieces = [p for t in TEXT for p, _ in tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(t)]
    pairs = Counter(pair for piece in pieces for pair in itertools.pairwise(piece))
    most = max(pairs.values())
    assert tokenizer.convert_ids_to_tokens(SMALLEST) in {"".join(p) for p, count in pairs.items() if count == most}


def test_the_smallest_has_one_token_for_each_byte(tmp_path):
    tokenizer = train(TEXT, SMALLEST, tmp_path)
    assert len(tokenizer) == SMALLEST
    assert len(tokenizer("plain text!")["input_ids"]) == 11
    assert len(tokenizer("é")["input_ids"]) == 2


def test_the_same_text_gives_the_same_bytes_in_another_process(tmp_path):
    train(TEXT, 400, tmp_path / "here")
    code = (
        "import pydoc_data.topics as t; from pathlib import Path; from tasks.text.tokenizers_from_text import train; "
        "train([t.topics[n] for n in sorted(t.topics)[:6]], 400, Path('there'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert tree_hash(tmp_path / "here") == tree_hash(tmp_path / "there")


def test_fewer_tokens_than_bytes_are_refused(tmp_path):
    with pytest.raises(UserError, match=str(SMALLEST)):
        train(TEXT, SMALLEST - 1, tmp_path / "none")
    assert not (tmp_path / "none").exists()
