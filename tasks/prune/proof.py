"""Proof that a tokenizer of fewer tokens reads and writes texts as the one it was made from."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from tasks.core.errors import UserError
from tasks.text.data import Text
from tasks.text.vocabulary import Ids

BATCH = 1000


@dataclass
class Proof:
    """What became of the texts and rows."""

    exact: int = 0
    """With the same token strings, and the same text back."""
    changed: int = 0
    """With a token that was to go: in smaller pieces, the same text back, nothing unknown that was known."""
    lost: set[int] = field(default_factory=set)
    """Tokens that must be put back, because a text was not the same without them."""


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text]) -> Iterator[list[int]]:
    """Token ids of each text or pair of texts, special tokens included, nothing cut off."""
    for start in range(0, len(texts), BATCH):
        yield from tokenizer(list(texts[start : start + BATCH]), truncation=False, verbose=False)["input_ids"]


def prove(
    before: PreTrainedTokenizerBase,
    after: PreTrainedTokenizerBase,
    mapping: Mapping[int, int],
    texts: Sequence[Text],
    rows: Iterable[Ids],
    rare: set[int],
) -> Proof:
    """Compares both tokenizers on all that is given.

    Args:
        before: the one that was given.
        after: the one with the tokens of `mapping`.
        mapping: old id to new.
        texts: encoded by both: the same ids (mapped), token strings and decoded text.
        rows: ids of `before`: the same token strings and decoded text of the mapped ids.
        rare: tokens that went though the data has them; texts with them may become other tokens.

    Raises:
        UserError: a text differs, and no removed token is the reason.
    """
    proof = Proof()
    old, new = list(mapping), list(mapping.values())
    strings = before.convert_ids_to_tokens(old)
    for token, was, now in zip(old, strings, after.convert_ids_to_tokens(new), strict=True):
        if was != now:
            raise UserError(
                f"the rebuilt tokenizer has {now!r} where {was!r} was (id {token}); its vocabulary must stay"
            )
    for text, row, other in zip(texts, encode(before, texts), encode(after, texts), strict=True):
        back = before.decode(row) == after.decode(other)
        if back and other == [mapping.get(token) for token in row]:
            proof.exact += 1
        elif back and rare.intersection(row) and _unknown(after, other) <= _unknown(before, row):
            proof.changed += 1
        else:
            _lose(proof, mapping, row, repr(text))
    for given in rows:
        row = [int(token) for token in given]
        mapped = [mapping.get(token) for token in row]
        if rare.intersection(row):
            proof.changed += 1
        elif None not in mapped and before.decode(row) == after.decode(mapped):
            proof.exact += 1
        else:
            _lose(proof, mapping, row, f"row {row}")
    return proof


def _lose(proof: Proof, mapping: Mapping[int, int], row: Sequence[int], what: str) -> None:
    lost = {token for token in row if token not in mapping}
    if not lost:
        raise UserError(
            f"the rebuilt tokenizer reads {what[:80]} differently though it has all tokens of it; "
            "its vocabulary must stay: leave the vocabulary out of what is pruned"
        )
    proof.lost |= lost


def _unknown(tokenizer: PreTrainedTokenizerBase, row: Sequence[Any]) -> int:
    return sum(token == tokenizer.unk_token_id for token in row) if tokenizer.unk_token_id is not None else 0
