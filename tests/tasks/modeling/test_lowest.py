"""The lowest entries, against a stable sort."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from tasks.modeling.lowest import lowest


@given(st.integers(1, 4), st.integers(1, 12), st.data())
def test_takes_the_first_so_many_of_a_stable_sort(rows, width, data):
    cells = st.lists(st.integers(-3, 3), min_size=width, max_size=width)
    table = np.array(data.draw(st.lists(cells, min_size=rows, max_size=rows)), np.float32)
    count = data.draw(st.integers(0, width))
    expected = np.zeros_like(table, bool)
    np.put_along_axis(expected, np.argsort(table, axis=1, kind="stable")[:, :count], True, axis=1)
    assert np.array_equal(lowest(torch.from_numpy(table), count).numpy(), expected)
    assert np.array_equal(lowest(torch.from_numpy(table[0]), count).numpy(), expected[0])
