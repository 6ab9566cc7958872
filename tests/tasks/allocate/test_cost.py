import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from tasks.allocate.cost import Linear, isotonic, latency
from tasks.core.errors import UserError


def test_linear_cost_vanishes_with_the_last_unit():
    assert Linear(3.0, fixed=10.0)(np.array([0, 1, 4])).tolist() == [0, 13, 22]


@given(st.lists(st.floats(0, 10), min_size=1, max_size=20))
def test_isotonic_is_that_of_sklearn(values):
    expected = IsotonicRegression().fit_transform(np.arange(len(values)), values)
    found = isotonic(np.array(values))
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert (np.diff(found) >= 0).all()


def test_latency_is_repaired_and_interpolated():
    table = latency({8: 4.0, 2: 1.0, 4: 3.0, 6: 2.0})
    assert table(np.array([2, 3, 4, 5, 6, 7, 8])).tolist() == [1.0, 1.75, 2.5, 2.5, 2.5, 3.25, 4.0]
    with pytest.raises(UserError, match="No latency for 1 units: levels from 2 to 8"):
        table(np.array([4, 1]))
