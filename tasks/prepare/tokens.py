"""Texts to token ids, with the tokenizer of the model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tasks.core.errors import UserError
from tasks.core.files import read_json
from tasks.core.progress import progress
from tasks.prepare.rows import Row

VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.tiktoken", "tekken.json")
BATCH = 1000


@dataclass(frozen=True)
class Tokens:
    """The tokens of a split, row by row."""

    input_ids: list[list[int]]
    """At most `max_length` of each text, special tokens included, without padding."""
    token_type_ids: list[list[int]] | None
    """For pairs, where the model tells the two texts apart by them."""
    lengths: list[int]
    """How many there were before longer texts were cut off."""


def load(
    directory: Path, max_length: int, *, pairs: bool, pads: bool = True, left: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer in a model's directory; no code of the directory is run, no network asked.

    Args:
        directory: of the model.
        max_length: tokens that it will be asked for.
        pairs: whether it will be given two texts at a time.
        pads: whether it must have a padding token; otherwise the end-of-text token takes its place where it has none.
        left: whether it is to pad on the left, for those who use the model elsewhere; otherwise as it did.

    Raises:
        UserError: there is none, it cannot be loaded, or it does not fit `max_length`.
    """
    name = f"model.source ({directory.name})"
    if not any(any(directory.glob(pattern)) for pattern in VOCABULARIES):
        raise UserError(
            f"{name}: holds no tokenizer (none of {', '.join(VOCABULARIES)}); add the model's tokenizer files"
        )
    try:
        side = {"padding_side": "left"} if left else {}  # set later it would not be saved
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False, local_files_only=True, **side)
    except Exception as error:  # the tokenizers library raises nothing narrower
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{name}: its tokenizer cannot be loaded ({reason}); fetch or save it again") from None
    if tokenizer.pad_token_id is None and not pads:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        raise UserError(f"{name}: its tokenizer has no padding token; set pad_token and save it again")
    config = config_of(directory)
    longest = config.get("max_position_embeddings", config.get("n_positions"))
    shortest = tokenizer.num_special_tokens_to_add(pair=pairs) + (2 if pairs else 1)
    if (isinstance(longest, int) and max_length > longest) or max_length < shortest:
        raise UserError(
            f"task.max_length: {max_length}; this model takes {shortest} to {longest or 'any number of'} tokens"
        )
    if tokenizer.is_fast:  # what a file prescribes is not what is asked for here
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.backend_tokenizer.no_truncation()
    return tokenizer


def encode(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], max_length: int, what: str) -> Tokens:
    """Tokenises rows; texts of more than `max_length` tokens are cut off.

    Args:
        tokenizer: of the model.
        rows: of one split.
        max_length: most tokens of a row, special tokens included.
        what: name of the split, for the progress.
    """
    pairs = any(row.text_pair is not None for row in rows)
    types: list[list[int]] | None = [] if pairs and "token_type_ids" in tokenizer.model_input_names else None
    tokens = Tokens([], types, [])
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        full = _call(tokenizer, batch, truncation=False)
        ids = full["input_ids"]
        tokens.lengths.extend(map(len, ids))
        long = [i for i, row in enumerate(ids) if len(row) > max_length]
        if long:
            cut = _call(tokenizer, [batch[i] for i in long], truncation=True, max_length=max_length)
            for key in full:
                for i, row in zip(long, cut[key], strict=True):
                    full[key][i] = row
        tokens.input_ids.extend(ids)
        if types is not None:
            types.extend(full["token_type_ids"])
        progress(f"tokenise {what}", min(start + BATCH, len(rows)), len(rows))
    return tokens


def check_vocabulary(directory: Path, tokens: Sequence[Tokens]) -> None:
    """Refuses a tokenizer whose ids the model does not have.

    Raises:
        UserError: an id is at or above the `vocab_size` of the model's config.
    """
    size = config_of(directory).get("vocab_size")
    highest = max((max(ids) for part in tokens for ids in part.input_ids), default=0)
    if isinstance(size, int) and highest >= size:
        raise UserError(
            f"model.source ({directory.name}): its tokenizer gives id {highest}, its config has vocab_size {size}; "
            "take tokenizer and model from the same place"
        )


def _call(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], **options: Any) -> dict[str, list[list[int]]]:
    second = [row.text_pair for row in rows] if rows[0].text_pair is not None else None
    return dict(
        tokenizer(
            [row.text for row in rows],
            second,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=second is not None and "token_type_ids" in tokenizer.model_input_names,
            verbose=False,
            **options,
        )
    )


def config_of(directory: Path) -> dict[str, Any]:
    """The config.json in a model's directory; empty where there is none.

    Raises:
        UserError: it is no JSON.
    """
    path = directory / "config.json"
    try:
        config = read_json(path) if path.is_file() else {}
    except ValueError as error:
        raise UserError(f"model.source ({directory.name}): config.json is broken ({error}); fetch it again") from None
    return config if isinstance(config, dict) else {}
