"""What must stay in a vocabulary so that the tokens that stay can be reached, and any text still be written."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from tasks.core.errors import UserError

KINDS = ("WordPiece", "BPE", "Unigram")
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


class Pieces:
    """The tokens of a tokenizer.json and what each is made of.

    Args:
        document: of `tokenizers.Tokenizer.to_str`.

    Raises:
        UserError: a kind of model whose vocabulary cannot be reduced.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        model = document["model"]
        if model["type"] not in KINDS:
            raise UserError(
                f"the tokenizer's model is {model['type']}; vocabulary can be pruned of {', '.join(KINDS)}: "
                "leave the vocabulary out of what is pruned"
            )
        if model["type"] == "BPE" and (model.get("continuing_subword_prefix") or model.get("end_of_word_suffix")):
            raise UserError(
                "the tokenizer is a BPE with marks inside or at the end of words; vocabulary can be pruned of "
                "byte-level and SentencePiece-like BPE: leave the vocabulary out of what is pruned"
            )
        self._model = model
        unigram = model["type"] == "Unigram"
        self.ids: dict[str, int] = {t: i for i, (t, _) in enumerate(model["vocab"])} if unigram else model["vocab"]
        """Id of each token of the model, added tokens outside of it left out."""
        self._tokens = {i: token for token, i in self.ids.items()}
        self._ranks = {(a, b): rank for rank, (a, b) in enumerate(map(merge_pair, model.get("merges") or []))}

    def base(self) -> set[int]:
        """Ids without which some text could no longer be written.

        The unknown token; the 256 bytes where they are the fallback, else every single character, and every token with
        a character that is not there on its own; for Unigram a token of the lowest score, from which the library
        derives that of the unknown token.
        """
        base = set()
        if self._model.get("unk_token") in self.ids:
            base.add(self.ids[self._model["unk_token"]])
        if self._model.get("unk_id") is not None:
            base.add(self._model["unk_id"])
        if self._model["type"] == "Unigram":
            base.add(min(enumerate(self._model["vocab"]), key=lambda entry: entry[1][1])[0])
        if self._model.get("byte_fallback") and all(byte in self.ids for byte in BYTES):
            return base | {self.ids[byte] for byte in BYTES}
        for token, number in self.ids.items():
            single = self._singles(token)
            if len(single) == 1 or any(piece not in self.ids for piece in single):
                base.add(number)
        return base

    def needs(self, token: int) -> set[int]:
        """`token`, and for BPE the tokens that merging its characters passes through on the way to it.

        Merges that cross the border of a final token never happen, so inside of it they are those of its characters
        alone: the tokens here are all that any text passes through that contains it.
        """
        if token not in self._tokens or not self._ranks:
            return {token}
        symbols = list(self._tokens[token])
        passed = set(symbols)
        while len(symbols) > 1:
            pairs = list(pairwise(symbols))
            best = min(range(len(pairs)), key=lambda i: self._ranks.get(pairs[i], len(self._ranks)))
            if pairs[best] not in self._ranks:
                return {token}
            symbols[best : best + 2] = ["".join(pairs[best])]
            passed.add(symbols[best])
        return {token} | {self.ids[symbol] for symbol in passed if symbol in self.ids}

    def closure(self, tokens: Iterable[int]) -> set[int]:
        """All that the given tokens need."""
        return set().union(*map(self.needs, tokens))

    def _singles(self, token: str) -> list[str]:
        prefix = self._model.get("continuing_subword_prefix") or ""
        if not prefix:
            return list(token)
        inner = len(token) > len(prefix) and token.startswith(prefix)
        body = token[len(prefix) :] if inner else token
        return [prefix + character if inner or i else character for i, character in enumerate(body)]


def merge_pair(merge: str | list[str]) -> tuple[str, str]:
    """Both sides of a merge, in the older form `"a b"` or the newer `["a", "b"]`."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right
