from collections import Counter
from typing import Any

import pytest
from prepare_examples import examples, make_data

from tasks.core.errors import UserError
from tasks.prepare.check import check
from tasks.prepare.rows import Clean, clean
from tasks.prepare.split import arrange
from tasks.prepare.table import Table


def table(columns: dict[str, list[Any]], name: str = "data.csv") -> Table:
    return Table(name, columns, "line", range(2, 2 + len(next(iter(columns.values())))))


def cleaned(values: list[Any], texts: list[Any] | None = None, **changes: Any) -> Clean:
    columns = {"text": texts or [f"text {i}" for i in range(len(values))], "label": values}
    return clean({"train": table(columns)}, make_data(**changes))


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["b", " a ", "b"], ["a", "b"]),
        ([10, 9, 10], ["9", "10"]),
        (["10", "9", "-1"], ["-1", "9", "10"]),
        ([1.0, 0.0], ["0", "1"]),
        ([True, False], ["false", "true"]),
        (["10", "9", "x"], ["10", "9", "x"]),
    ],
)
def test_labels_are_names_in_order(values: list[Any], classes: list[str]) -> None:
    assert cleaned(values).classes == classes


def test_given_labels_set_the_order_and_leave_out_the_rest() -> None:
    found = cleaned(["b", "c", "a", "b"], labels=("b", "a"))
    assert found.classes == ["b", "a"]
    assert [row.label for row in found.splits["train"]] == [0, 1, 0]
    assert found.dropped["other_labels"] == 1


@pytest.mark.parametrize(
    ("labels", "changes", "says"),
    [
        (["a", "a"], {}, r"one class only: a \(2\)"),
        (["a", None, "b", ""], {}, r"2 of 4 rows have no label, the first is data\.csv, line 3"),
        (["a", float("nan")], {}, r"1 of 2 rows have no label"),
        ([0.5, 1.5], {}, r"data\.csv, line 2: the label 0\.5 names no class"),
        ([[1], [2]], {}, r"names no class"),
        (["a", "b"], {"labels": ("A", "B")}, r"no row has 'A', 'B'; column 'label' has a \(1\), b \(1\)"),
        (["good", "bad"], {"labels": ("goood", "bad")}, r"no row has 'goood'.*nearest to 'goood' is 'good'"),
        (["a", "b"], {"labels": ("a", "b", "a ")}, r"a is given twice"),
        (["a", "b"], {"label": "lable"}, r"data\.label: data\.csv has no column 'lable'.*the nearest is label"),
        (["a", "b"], {"group": "film"}, r"data\.group: data\.csv has no column 'film'; it has text, label"),
        (["a", "b"], {"text_pair": "pair"}, r"data\.text_pair: data\.csv has no column 'pair'"),
        (["a", "b"], {"label": "text"}, r"must differ"),
        (["a", "b"], {"max_chars": 5}, r"data\.csv, line 2: a text of 6 characters; data\.max_chars allows 5"),
    ],
)
def test_a_mistake_in_labels_or_columns(labels: list[Any], changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        cleaned(labels, **changes)


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ([1, 2], r"data\.text: column 'text' holds 1 \(data\.csv, line 2\), which is no text"),
        (["1", "2.5"], r"holds only numbers, such as 1"),
        (["a", "b\ud800"], r"data\.csv, line 3: character 2 is half of a surrogate pair"),
        ([["a"], ["b"]], r"is no text"),
    ],
)
def test_a_column_that_is_no_text(texts: list[Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        cleaned(["a", "b"], texts)


def test_empty_texts_are_left_out_and_counted() -> None:
    found = cleaned(["a", "b", "a", "b"], ["x", " \t", None, "y "])
    assert [row.text for row in found.splits["train"]] == ["x", "y"]
    assert found.dropped["empty"] == 2


def test_a_split_without_any_label_is_hidden_test_data() -> None:
    train = table({"text": ["a", "b"], "label": ["x", "y"]})
    found = clean({"train": train, "test": table({"text": ["c"], "label": [None]})}, make_data())
    assert list(found.splits) == ["train"]
    assert found.dropped["unlabelled"] == 1


def test_a_gap_in_a_split_with_labels_is_a_mistake() -> None:
    train = table({"text": ["a", "b"], "label": ["x", "y"]})
    test = table({"text": ["c", "d"], "label": [None, "x"]}, "test.csv")
    with pytest.raises(UserError, match=r"1 of 2 rows have no label, the first is test\.csv, line 2"):
        clean({"train": train, "test": test}, make_data())


def checked(rows: list[tuple[str, str]], **changes: Any) -> None:
    data = make_data(**changes)
    columns: dict[str, list[Any]] = {
        "text": [r[0] for r in rows],
        "label": [r[1] for r in rows],
        "film": ["f"] * len(rows),
    }
    found = clean({"train": table(columns)}, data)
    dropped: Counter[str] = found.dropped
    check(arrange(found.splits, data, 0, dropped), found.splits, found.classes, dropped, data)


def test_enough_rows_pass() -> None:
    checked(examples())


@pytest.mark.parametrize(
    ("rows", "changes", "says"),
    [
        (examples(7), {}, r"7 rows are left; 8 are the least: give more rows"),
        (examples(7) * 3, {}, r"7 rows are left \(left out: 14 duplicates\)"),
        (
            examples(),
            {"test": 0},
            r"test has none of 60 rows; .*change data\.validation \(0\.2\) or data\.test \(0\.0\)",
        ),
        (examples(), {"group": "film"}, r"none of 60 rows; .*choose another data\.group \(film has 1 groups\)"),
        (examples(), {"limit": 1}, r"3 rows are left .*raise data\.limit \(1\)"),
        ([*examples(), ("once only", "rare")], {}, r"too few rows of 'rare' \([01]\)"),
        (
            [*examples(), *((f"seldom {i}", "rare") for i in range(2))],
            {"test": 0.5},
            r"too few rows of 'rare' \([01]\)",
        ),
    ],
)
def test_splits_that_cannot_carry_a_training(rows: list[tuple[str, str]], changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        checked(rows, **changes)
