import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import UserError
from tasks.text.blocks import encode, pack, read_documents
from tasks.text.tokenizers_from_text import train

EOS = 0
token_lists = st.lists(st.lists(st.integers(1, 9), max_size=12), max_size=8)


@given(token_lists, st.integers(2, 7), st.booleans())
def test_blocks_are_the_documents_with_eos_after_each_cut_every_length_tokens(rows, length, keep_last):
    stream = []
    for row in rows:
        if row:
            stream += [*row, EOS]
    expected = []
    while len(stream) >= length:
        expected.append(stream[:length])
        stream = stream[length:]
    if keep_last and len(stream) > 1:
        expected.append(stream)
    documents = [np.array(row, np.int64) for row in rows]
    if expected:
        assert [block.tolist() for block in pack(documents, length, EOS, keep_last=keep_last)] == expected
    else:
        with pytest.raises(UserError, match="give more text"):
            pack(documents, length, EOS, keep_last=keep_last)


def test_a_block_of_one_token_is_refused():
    with pytest.raises(UserError, match="at least 2"):
        pack([np.array([1, 2])], 1, EOS)


def test_a_text_is_a_document_a_line_or_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufefffirst\r\n\n  \nsecond line \nthird".encode())
    assert read_documents(path) == ["first", "second line ", "third"]
    path.write_text("one\n\ntwo\n", encoding="utf-8")
    assert read_documents(path, unit="file") == ["one\n\ntwo\n"]


def test_jsonl_gives_its_column(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"body": "one\ntwo", "n": 1}, {"body": " "}, {"body": "é"}]
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    assert read_documents(path, column="body") == ["one\ntwo", "é"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"x", r"\.txt or \.jsonl"),
        ("a.txt", b"ab\xff", "byte 2"),
        ("a.txt", b" \n\n", "no text"),
        ("a.jsonl", b'{"text": "a"}\n{"text": ', "line 2: broken JSON"),
        ("a.jsonl", b'{"body": "a"}', "there is: body"),
        ("a.jsonl", b'{"text": 3}', "no text under 'text'"),
        ("a.jsonl", b"[1]", "there is: list"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=says):
        read_documents(tmp_path / name)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_documents(tmp_path / "none.txt")


def test_documents_are_encoded_without_special_tokens(tmp_path):
    documents = ["the cat", "", "sat on the mat"]
    tokenizer = train(documents, 270, tmp_path)
    found = encode(tokenizer, documents)
    assert [tokenizer.decode(ids) for ids in found] == documents
    assert all(ids.dtype == np.int64 for ids in found)
