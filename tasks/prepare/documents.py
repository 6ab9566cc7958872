"""Documents for causal language modelling, as blocks of a stream or windows of their own."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from tasks.core.errors import UserError
from tasks.prepare.rows import Row
from tasks.prepare.tokens import Tokens
from tasks.text.blocks import encode as ids_of
from tasks.text.blocks import pack
from tasks.text.perplexity import windows


@dataclass(frozen=True)
class Documents(Tokens):
    """What the model reads, row by row; `lengths` are the tokens of the documents, which are never cut off."""

    labels: list[int]
    """First token of each row that is scored; those before it are context."""
    document: list[int] | None
    """Which document each row is a window of; None: rows are blocks of all documents one after the other."""


def encode(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], max_length: int, what: str, shared: int
) -> Documents:
    """Training rows: blocks of `max_length` tokens, cut from the documents with an end-of-text token after each.

    Of other splits each document is read by itself, behind an end-of-text token, in windows of at most `max_length`
    tokens; neighbours share `shared` of them, and each token of the document is scored once.

    Args:
        tokenizer: of the model.
        rows: of one split.
        max_length: tokens of a block or window.
        what: name of the split: `train`, or another one.
        shared: tokens of context that a window repeats.

    Raises:
        UserError: the tokenizer has no end-of-text token, or the training text is too short for one block.
    """
    eos = tokenizer.eos_token_id
    if eos is None:
        raise UserError("model.source: its tokenizer has no end-of-text token; set eos_token and save it again")
    ids = ids_of(tokenizer, [row.text for row in rows], what)
    lengths = [len(document) for document in ids]
    if what == "train":
        blocks = [block.tolist() for block in pack(ids, max_length, eos)]
        return Documents(blocks, None, lengths, [1] * len(blocks), None)
    full = [np.concatenate([[eos], document]) for document in ids]
    found = [w for i, document in enumerate(full) for w in windows(len(document), max_length, max_length - shared, i)]
    if not found:
        raise UserError(f"data: {what} has no token; give other texts")
    return Documents(
        [full[w.document][w.start : w.end].tolist() for w in found],
        None,
        lengths,
        [w.first - w.start for w in found],
        [w.document for w in found],
    )
