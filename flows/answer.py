"""Questions as JSON to the windows that a model reads, and what it says to its answers."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from flows.predict import Line, tokenizer_of
from tasks.core.errors import UserError
from tasks.prepare import windows
from tasks.prepare.rows import Answers, Row
from tasks.text.data import Split, Windows
from tasks.text.qa import QuestionAnswering
from tasks.text.spans import N_BEST, best_spans
from tasks.text.task import Outputs


def ask(directory: Path, lines: list[str], task: QuestionAnswering) -> Split:
    """JSON objects with `question` and `context` as the windows that the model was trained on.

    Raises:
        UserError: a line is no such object.
    """
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            found = json.loads(line)
            question, context = found["question"], found["context"]
            if not question.strip() or not context.strip():
                raise ValueError("one of them is empty")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            wanted = 'this model answers questions; give {"question": "…", "context": "…"}'
            raise UserError(f"text {number}: {wanted} ({type(error).__name__}: {error})") from None
        rows.append(Row(question, context, Answers(str(number), (), 0), "", ""))
    tokenizer = tokenizer_of(directory)
    encoded = windows.encode(tokenizer, rows, task.max_length, "questions", task.doc_stride)
    arrays = [[np.asarray(ids, np.int64) for ids in part] for part in (encoded.input_ids, encoded.token_type_ids or [])]
    offsets = [np.asarray(flat, np.int64).reshape(-1, 2) for flat in encoded.offsets]
    texts = [row.text for row in rows], [row.text_pair or "" for row in rows]
    example, null, labels = (np.asarray(part, np.int64) for part in (encoded.example, encoded.null, encoded.labels))
    ids, none = [str(number) for number in range(1, len(rows) + 1)], [[] for _ in rows]  # type: ignore[var-annotated]
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
        lines.append((text, f"{shares[0 if text else -1]:.4f}", question))
    return lines
