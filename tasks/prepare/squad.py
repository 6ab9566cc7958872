"""Questions in the format of SQuAD: nested files made flat, and rows checked against their contexts."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from tasks.core.errors import UserError
from tasks.prepare.rows import Answers, Clean, Row, distinct, normal, text_of, texts
from tasks.prepare.table import Table
from tasks.recipe.schema import Data, Task

ID = "id"
"""Column with the names of the questions; where there is none they are numbered."""

KEYS = ("text", "answer_start")


def flat(articles: list[Any], name: str) -> list[dict[str, Any]]:
    """Official nested articles as objects with `id`, `title`, `context`, `question` and `answers`.

    Raises:
        UserError: an article, paragraph or question is not of that form.
    """
    found = []
    try:
        for article in articles:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    answers = [] if question.get("is_impossible") else question["answers"]
                    found.append(
                        {
                            "id": question["id"],
                            "title": article.get("title"),
                            "context": paragraph["context"],
                            "question": question["question"],
                            "answers": {key: [answer[key] for answer in answers] for key in KEYS},
                        }
                    )
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{name}: after {len(found)} questions the file is not as SQuAD's ({type(error).__name__}: {error}); "
            "it must be data > paragraphs > context, qas > id, question, answers > text, answer_start"
        ) from None
    return found


def clean_questions(tables: Mapping[str, Table], data: Data, task: Task) -> Clean:
    """Questions (`data.text`) with contexts (`data.text_pair`) and answers (`data.label`).

    Contexts stay as they are, so that answers keep their places. A question without a group belongs with its context.

    Raises:
        UserError: a column is missing or of another kind, an answer does not stand where it is said to, or a question
            has none though `task.no_answer` is false.
    """
    distinct(data)
    dropped: Counter[str] = Counter()
    return Clean({split: _rows(table, data, task, dropped) for split, table in tables.items()}, [], dropped)


def _rows(table: Table, data: Data, task: Task, dropped: Counter[str]) -> list[Row]:
    questions = texts(table, "data.text", data.text)
    contexts = texts(table, "data.text_pair", str(data.text_pair))
    answers = table.column("data.label", data.label)
    groups = table.column("data.group", data.group) if data.group else [None] * len(table)
    ids = table.columns.get(ID) or [None] * len(table)
    rows: list[Row] = []
    bare = []
    for i, context in enumerate(contexts):
        where = table.at(i)
        question = text_of(questions[i], where, data)
        if not question or not text_of(context, where, data):
            dropped["empty"] += 1
            continue
        found = _answers(answers[i], str(context), f"{table.numbers[i]}" if ids[i] is None else str(ids[i]), where)
        if not found.texts:
            bare.append(where)
        group = "" if groups[i] is None else str(groups[i]).strip()
        home = f"group\0{group}" if group else normal(str(context))
        rows.append(Row(question, str(context), found, f"{normal(question)}\0{normal(str(context))}", home))
    if bare and not task.no_answer:
        raise UserError(
            f"data.label: {len(bare)} of {len(table)} questions have no answer, the first is {bare[0]}; "
            "set task.no_answer=true, or take them out"
        )
    return rows


def _answers(value: Any, context: str, name: str, where: str) -> Answers:
    if isinstance(value, list):  # a list of {text, answer_start} instead of two lists
        value = {key: [one.get(key) if isinstance(one, dict) else None for one in value] for key in KEYS}
    found: list[Any] = [value.get(key) for key in KEYS] if isinstance(value, dict) else [None]
    if not all(isinstance(part, list) for part in found) or len(found[0]) != len(found[1]):
        raise UserError(
            f"{where}: answers {str(value)[:60]!r}; they must be text and answer_start, two lists of the same length"
        )
    for text, start in zip(*found, strict=True):
        right = isinstance(text, str) and isinstance(start, int) and start >= 0
        if not right or not text or context[start : start + len(text)] != text:
            there = f"there stands {context[start : start + len(text)]!r}" if right else "text and number are needed"
            raise UserError(f"{where}: the answer {text!r} does not stand at {start} of its context; {there}")
    return Answers(name, tuple(found[0]), found[1][0] if found[1] else 0)
