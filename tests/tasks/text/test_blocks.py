import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import UserError
from tasks.text.blocks import encode, pack
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


def test_documents_are_encoded_without_special_tokens(tmp_path):
    documents = ["the cat", "", "sat on the mat"]
    tokenizer = train(documents, 270, tmp_path)
    found = encode(tokenizer, documents)
    assert [tokenizer.decode(ids) for ids in found] == documents
    assert all(ids.dtype == np.int64 for ids in found)
