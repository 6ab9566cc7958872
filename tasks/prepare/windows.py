"""Questions with long contexts as windows that overlap, each with the place of the answer in it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from tasks.core.errors import UserError
from tasks.core.progress import progress
from tasks.prepare.rows import Answers, Row
from tasks.prepare.tokens import BATCH, Tokens


@dataclass(frozen=True)
class Windowed(Tokens):
    """The tokens of windows, row by row; `lengths` are those of questions and contexts in full, one per example."""

    example: list[int]
    """Which example each window belongs to."""
    labels: list[tuple[int, int]]
    """First and last token of the answer; where the window does not hold it whole, twice the `null` token."""
    null: list[int]
    """The token that stands for no answer: the classifier token, or the first where a model has none."""
    offsets: list[list[int]]
    """For each token from and to which character of the context it goes; -1, -1 outside the context."""
    cut: list[int] = field(default_factory=list)
    """Examples whose question was cut off."""
    held: set[int] = field(default_factory=set)
    """Examples whose answer lies whole in a window."""


def encode(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], max_length: int, what: str, stride: int
) -> Windowed:
    """Tokenises question and context in windows of at most `max_length` tokens, neighbours of which share `stride`.

    A question that leaves no room for more than the shared tokens is cut off.

    Args:
        tokenizer: of the model.
        rows: of one split, with `Answers` as labels.
        max_length: tokens of a window, special tokens included.
        what: name of the split, for the progress.
        stride: tokens of the context that neighbouring windows share.

    Raises:
        UserError: the tokenizer does not say which characters a token covers, or a window has no room for a question.
    """
    if not tokenizer.is_fast:
        raise UserError(
            "model.source: its tokenizer does not say which characters a token covers, which task.type qa needs; "
            "take a model with a tokenizer.json"
        )
    room = max_length - tokenizer.num_special_tokens_to_add(pair=True) - stride - 1
    if room < 1:
        raise UserError(
            f"task.max_length: {max_length} leaves no room for a question beside task.doc_stride ({stride}) and "
            "special tokens; raise it or lower task.doc_stride"
        )
    types: list[list[int]] | None = [] if "token_type_ids" in tokenizer.model_input_names else None
    found = Windowed([], types, [], [], [], [], [])
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        questions = _questions(tokenizer, [row.text for row in batch], room)
        found.cut.extend(start + i for i, row in enumerate(batch) if questions[i] != row.text)
        encoded = tokenizer(
            questions,
            [row.text_pair for row in batch],
            truncation="only_second",
            max_length=max_length,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_token_type_ids=types is not None,
            padding=False,
        )
        lengths = [0] * len(batch)
        for i, within in enumerate(encoded["overflow_to_sample_mapping"]):
            ids = encoded["input_ids"][i]
            answers = batch[within].label
            inside = [part == 1 for part in encoded.encodings[i].sequence_ids]
            offsets = [
                pair if use else (-1, -1) for pair, use in zip(encoded["offset_mapping"][i], inside, strict=True)
            ]
            null = ids.index(tokenizer.cls_token_id) if tokenizer.cls_token_id in ids else 0
            span = _span(offsets, answers) if isinstance(answers, Answers) else None
            if span:
                found.held.add(start + within)
            found.example.append(start + within)
            found.input_ids.append(ids)
            if types is not None:
                types.append(encoded["token_type_ids"][i])
            found.labels.append(span or (null, null))
            found.null.append(null)
            found.offsets.append([character for pair in offsets for character in pair])
            lengths[within] += sum(inside) - stride if lengths[within] else len(ids)
        found.lengths.extend(lengths)
        progress(f"tokenise {what}", min(start + BATCH, len(rows)), len(rows))
    tokenizer.backend_tokenizer.no_truncation()
    return found


def _questions(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], room: int) -> list[str]:
    """The questions, cut off after `room` tokens."""
    offsets = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ends = [pairs[room - 1][1] if len(pairs) > room else None for pairs in offsets["offset_mapping"]]
    return [text[:end] for text, end in zip(texts, ends, strict=True)]


def _span(offsets: Sequence[tuple[int, int]], answers: Answers) -> tuple[int, int] | None:
    """First and last token of the first answer, or None: there is none, or it is not whole in these tokens."""
    if not answers.texts:
        return None
    start, end = answers.start, answers.start + len(answers.texts[0])
    tokens = [i for i, (low, high) in enumerate(offsets) if low >= 0 and low < end and high > start]
    if not tokens or offsets[tokens[0]][0] > start or offsets[tokens[-1]][1] < end:
        return None
    return tokens[0], tokens[-1]
