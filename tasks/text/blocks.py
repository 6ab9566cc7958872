"""Documents as tokens, and the blocks of one length that a causal model is trained on."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from tasks.core.errors import UserError
from tasks.core.progress import progress

Tokens = NDArray[np.int64]
BATCH = 1000


def encode(tokenizer: PreTrainedTokenizerBase, documents: Sequence[str], what: str = "documents") -> list[Tokens]:
    """Token ids of each document, of any length, without special tokens; `what` names them in the progress."""
    out: list[Tokens] = []
    for start in range(0, len(documents), BATCH):
        ids = tokenizer(
            list(documents[start : start + BATCH]), add_special_tokens=False, return_attention_mask=False, verbose=False
        )["input_ids"]
        out.extend(np.asarray(row, np.int64) for row in ids)
        progress(f"tokenise {what}", len(out), len(documents))
    return out


def pack(documents: Iterable[Tokens], length: int, eos: int, *, keep_last: bool = False) -> list[Tokens]:
    """Blocks of `length` tokens, cut from the documents written one after the other, `eos` after each.

    A block may begin and end inside a document. Nothing is lost but, without `keep_last`, the rest that fills no block.

    Args:
        documents: token ids, shape (tokens,) each; documents of no token are left out.
        length: tokens of a block, at least 2: a shorter one has nothing to predict.
        eos: token that ends a document.
        keep_last: keep the rest as a shorter block, if it has at least 2 tokens.

    Raises:
        UserError: `length` below 2, or too few tokens for one block.
    """
    if length < 2:
        raise UserError(f"block length: {length}; a block has at least 2 tokens, one to see and one to predict")
    parts = [part for ids in documents if len(ids) for part in (ids, np.array([eos], np.int64))]
    stream = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    blocks = [stream[start : start + length] for start in range(0, len(stream), length)]
    if blocks and len(blocks[-1]) < (2 if keep_last else length):
        blocks.pop()
    if not blocks:
        raise UserError(f"the text has {len(stream)} tokens, a block {length}; give more text or a shorter block")
    return blocks
