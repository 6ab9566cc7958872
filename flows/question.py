"""Questions as JSON to the windows that a model reads, and what it says to its answers."""

import json
from typing import Any

import numpy as np

from flows.predict import ESCAPES, Line
from tasks.core.errors import UserError
from tasks.modeling.inference import Forward, logits
from tasks.prepare import windows
from tasks.prepare.rows import Answers, Row
from tasks.text.data import Split, Windows
from tasks.text.qa import QuestionAnswering
from tasks.text.spans import N_BEST, best_spans
from tasks.text.task import Outputs


def replied(
    run: Forward, tokenizer: Any, task: QuestionAnswering, config: dict[str, Any], batch_size: int,
    lines: list[str], first: int,
) -> list[Line]:  # fmt: skip
    """What the model `run` answers to questions as JSON, see `ask` and `answered`."""
    split = ask(tokenizer, lines, task, first)
    return answered(logits(run, split, batch_size), split, task, config)


def ask(tokenizer: Any, lines: list[str], task: QuestionAnswering, first: int) -> Split:
    """JSON objects with `question` and `context` as the windows that the model was trained on.

    Args:
        tokenizer: of the model.
        lines: the objects.
        task: length and stride of the windows.
        first: number of the first line, for messages.

    Raises:
        UserError: a line is no such object.
    """
    rows = []
    for number, line in enumerate(lines, first):
        try:
            found = json.loads(line)
            question, context = found["question"], found["context"]
            if not question.strip() or not context.strip():
                raise ValueError("one of them is empty")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            wanted = 'this model answers questions; give {"question": "…", "context": "…"}'
            raise UserError(f"text {number}: {wanted} ({type(error).__name__}: {error})") from None
        rows.append(Row(question, context, Answers(str(number), (), 0), "", ""))
    encoded = windows.encode(tokenizer, rows, task.max_length, "questions", task.doc_stride)
    arrays = [[np.asarray(ids, np.int64) for ids in part] for part in (encoded.input_ids, encoded.token_type_ids or [])]
    offsets = [np.asarray(flat, np.int64).reshape(-1, 2) for flat in encoded.offsets]
    texts = [row.text for row in rows], [row.text_pair or "" for row in rows]
    example, null, labels = (np.asarray(part, np.int64) for part in (encoded.example, encoded.null, encoded.labels))
    ids, none = [str(number) for number in range(first, first + len(rows))], [[] for _ in rows]  # type: ignore[var-annotated]
    found = Windows(ids, *texts, none, example, null, offsets)
    return Split(arrays[0], arrays[1] or None, labels, tokenizer.pad_token_id, found)


def answered(values: Outputs, split: Split, task: QuestionAnswering, config: dict[str, Any]) -> list[Line]:
    """Answer (nothing where the model says that there is none), its probability among the best, question."""
    asked = split.windows
    assert asked is not None  # noqa: S101
    found = best_spans(values, asked, task.max_answer, N_BEST)
    lines: list[Line] = []
    for best, text, question in zip(found, task.predict(values, split, config), asked.questions, strict=True):
        scores = np.array([*best.scores, best.null] if task.no_answer else best.scores)
        shares = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        share = f"{shares[0 if text else -1]:.4f}"
        lines.append((text.translate(ESCAPES), share, question.translate(ESCAPES)))
    return lines
