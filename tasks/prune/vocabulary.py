"""Removes the tokens that the data never uses: from the tokenizer, which is proven, and from the model."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tasks.core.errors import UserError
from tasks.core.files import write_json
from tasks.modeling.checkpoint import save
from tasks.modeling.vocabulary import named_tokens, rows, select_tokens
from tasks.prune.closure import Pieces
from tasks.prune.proof import Proof, encode, prove
from tasks.prune.tokenizer import document, load, rewrite, write
from tasks.text.data import Text
from tasks.text.vocabulary import VOCABULARY, Ids, Vocabulary


@dataclass(frozen=True)
class Pruned:
    """A model and what stays of its vocabulary."""

    model: PreTrainedModel
    vocabulary: Vocabulary
    proof: Proof


def choose(
    counts: Counter[int],
    always: set[int],
    needs: Callable[[int], set[int]],
    min_count: int = 1,
    size: int | None = None,
) -> set[int]:
    """Tokens that stay: `always`, and the most frequent ones with all that each needs.

    Args:
        counts: how often the data has each token.
        always: stay whatever their count.
        needs: a token and those that it cannot be made without.
        min_count: rarer tokens go.
        size: at most so many stay; equally frequent ones in the order of their ids.

    Raises:
        UserError: `always` alone is more than `size`.
    """
    kept = set(always)
    if min_count < 1:
        raise UserError(f"minimum count {min_count}: allowed are 1 (whatever the data uses) and more")
    if size is not None and len(kept) > size:
        raise UserError(
            f"vocabulary size {size}: special tokens, alphabet and tokens named in the config alone are {len(kept)}; "
            f"allowed is {len(kept)} or more"
        )
    for token, count in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])):
        more = kept | needs(token) if token not in kept else kept
        if count < min_count or (size is not None and len(more) > size):
            break
        kept = more
    return kept


def prune_vocabulary(
    model: PreTrainedModel,
    tokenizer: Path,
    texts: Sequence[Text],
    out: Path,
    *,
    token_rows: Sequence[Ids] = (),
    min_count: int = 1,
    size: int | None = None,
) -> Pruned:
    """Writes model and tokenizer without the tokens that the data does not use, and `vocabulary.json`.

    What is given tokenises and decodes as before, which is proven here with the files as they are loaded again; tokens
    are put back until it does. If `min_count` or `size` make tokens go that the data has, texts with these are allowed
    to become smaller pieces, if they still decode to the same text and nothing known becomes unknown. Any other text
    is covered by the alphabet, which stays (see `Pieces.base`).

    Args:
        model: whose rows go; left as it is.
        tokenizer: directory of its tokenizer.
        texts: of the data, or pairs of texts.
        out: directory; made if it is not there.
        token_rows: ids of data that is already tokenised, for counting and proof beside `texts`.
        min_count: rarer tokens go.
        size: most tokens that stay.

    Raises:
        UserError: neither texts nor rows, a tokenizer or model that cannot lose tokens, or `size` is too small.
    """
    if not texts and not token_rows:
        raise UserError("no texts and no token rows: the vocabulary to keep is what they use; give some")
    before, total = load(tokenizer), rows(model)
    old = document(tokenizer, before)
    pieces = Pieces(old)
    counts = Counter(int(token) for source in (encode(before, texts), token_rows) for row in source for token in row)
    if counts and (highest := max(counts)) >= total:
        raise UserError(
            f"the tokenizer gives id {highest}, the model has {total} tokens; take both from the same place"
        )
    special = set(before.all_special_ids) | set(before.added_tokens_decoder) | {t["id"] for t in old["added_tokens"]}
    always = pieces.closure(pieces.base()) | special | named_tokens(model)
    kept = choose(counts, always, pieces.needs, min_count, size)
    with tempfile.TemporaryDirectory() as name:
        trial = Path(name)
        if (tokenizer / "config.json").is_file():
            shutil.copyfile(tokenizer / "config.json", trial / "config.json")
        rare = set(counts) - kept
        while True:
            mapping = {token: i for i, token in enumerate(sorted(kept))}
            write(tokenizer, rewrite(old, mapping), mapping, trial)
            proof = prove(before, load(trial), mapping, texts, token_rows, rare - kept)
            if not proof.lost:
                break
            kept |= pieces.closure(proof.lost)
        if size is not None and len(kept) > size:
            raise UserError(f"vocabulary size {size}: without loss of text {len(kept)} is the least; allow that many")
        # tokens that only the tokenizer's class adds, beyond the model's, have no row; they come last
        vocabulary = Vocabulary([token for token in sorted(kept) if token < total], total)
        smaller = select_tokens(model, vocabulary.kept)
        save(smaller, out)
        write(tokenizer, rewrite(old, mapping), mapping, out)
    write_json(out / VOCABULARY, _record(before, vocabulary, counts, proof))
    return Pruned(smaller, vocabulary, proof)


def _record(
    tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary, counts: Counter[int], proof: Proof
) -> dict[str, Any]:
    used = set(counts)
    kept = set(vocabulary.kept)
    return {
        "before": vocabulary.before,
        "kept": vocabulary.kept,
        "used": len(used),
        "removed_though_used": tokenizer.convert_ids_to_tokens(sorted(used - kept)),
        "texts_exact": proof.exact,
        "texts_changed": proof.changed,
    }
