"""Plain documents, and the token blocks of one length that a causal model is trained on."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from tasks.core.errors import UserError
from tasks.core.progress import progress

Tokens = NDArray[np.int64]
Unit = Literal["line", "file"]
BATCH = 1000


def read_documents(path: Path, *, unit: Unit = "line", column: str = "text") -> list[str]:
    """The documents of a file, in its order; empty ones do not count.

    Args:
        path: UTF-8; `.txt`, or `.jsonl` with one object a line.
        unit: what one document of a `.txt` is: each line (a paragraph), or the whole file.
        column: key of a `.jsonl` object that holds the document.

    Raises:
        UserError: another extension, not UTF-8, broken JSON, no such column, or no document at all.
    """
    if path.suffix not in {".txt", ".jsonl"}:
        raise UserError(f"{path.name}: documents are read from .txt or .jsonl, not {path.suffix or 'no extension'!r}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path.name}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path.name}: cannot be read ({error.strerror}); give a file that can") from None
    lines = text.split("\n") if path.suffix == ".jsonl" or unit == "line" else [text]
    if path.suffix == ".jsonl":
        where = ((f"{path.name}, line {number}", line) for number, line in enumerate(lines, 1) if line.strip())
        lines = [_value(line, column, place) for place, line in where]
    documents = [line.rstrip("\r") for line in lines if line.strip()]
    if not documents:
        raise UserError(f"{path.name}: holds no text; give a file with documents")
    return documents


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


def _value(line: str, column: str, where: str) -> str:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: broken JSON ({error}); write one object a line") from None
    if not isinstance(found, dict) or not isinstance(found.get(column), str):
        there = ", ".join(map(str, found)) if isinstance(found, dict) else type(found).__name__
        raise UserError(f"{where}: has no text under {column!r} (there is: {there}); name the column that holds it")
    return str(found[column])
