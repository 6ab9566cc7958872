"""A part of a split: texts evenly spaced, whole ones where a text has several rows."""

import numpy as np
import pytest

from tasks.text.data import Documents, Split, Windows


def split_of(rows: int, windows: Windows | None = None, documents: Documents | None = None) -> Split:
    ids = [np.full(3 + row % 4, row) for row in range(rows)]
    return Split(ids, None, np.arange(rows), 0, windows, documents)


@pytest.mark.parametrize(
    ("rows", "count", "kept"),
    [(7, 3, [0, 3, 6]), (7, 4, [0, 2, 4, 6]), (7, 7, [*range(7)]), (7, 9, [*range(7)]), (7, 1, [0])],
)
def test_rows_are_evenly_spaced(rows: int, count: int, kept: list[int]) -> None:
    found, numbers = split_of(rows).thinned(count)
    assert numbers.tolist() == found.labels.tolist() == [int(ids[0]) for ids in found.input_ids] == kept


def test_an_example_comes_with_all_its_windows() -> None:
    example = np.array([0, 0, 1, 2, 2, 2, 3, 4])
    names = [f"q{number}" for number in range(5)]
    windows = Windows(
        names, names, names, [[name] for name in names], example, np.arange(8), [*map(np.array, range(8))]
    )
    found, numbers = split_of(8, windows).thinned(3)
    assert numbers.tolist() == found.labels.tolist() == [0, 1, 3, 4, 5, 7]
    assert found.windows is not None
    assert found.windows.ids == found.windows.questions == found.windows.contexts == ["q0", "q2", "q4"]
    assert found.windows.answers == [["q0"], ["q2"], ["q4"]]
    assert found.windows.example.tolist() == [0, 0, 1, 1, 1, 2]
    assert found.windows.null.tolist() == [int(one) for one in found.windows.offsets] == numbers.tolist()


def test_a_document_comes_with_all_its_windows() -> None:
    found, numbers = split_of(4, documents=Documents(["a", "b", "c"], np.array([0, 1, 1, 2]))).thinned(2)
    assert numbers.tolist() == [0, 3]
    assert found.documents is not None
    assert (found.documents.texts, found.documents.document.tolist()) == (["a", "c"], [0, 1])
