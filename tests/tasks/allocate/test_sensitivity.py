import numpy as np
import pytest
from allocate_examples import tables
from hypothesis import given
from hypothesis import strategies as st

from tasks.allocate.levels import Levels
from tasks.allocate.sensitivity import equal_loss
from tasks.core.errors import UserError


def naive(curves, budget):
    """Tries every increase that occurs, from the smallest up, with plain loops."""
    increase = {
        key: [max(c.loss[j] - c.loss[-1] for j in range(i, len(c.kept))) for i in range(len(c.kept))]
        for key, c in curves.items()
    }
    for threshold in sorted({value for values in increase.values() for value in values}):
        kept, cost = {}, 0.0
        for key, c in curves.items():
            options = [(c.cost[i], -c.kept[i]) for i in range(len(c.kept)) if increase[key][i] <= threshold]
            price, units = min(options)
            kept[key], cost = -units, cost + price
        if cost <= budget:
            return threshold, kept, cost
    return None


@given(tables(), st.integers(0, 160), st.integers(0, 160))
def test_smallest_common_loss_that_meets_the_budget(curves, budget, other):
    expected = naive(curves, budget)
    if expected is None:
        smallest = sum(table.cost.min() for table in curves.values())
        assert smallest > budget
        with pytest.raises(UserError, match=f"still {smallest:.6g}"):
            equal_loss(curves, budget)
        return
    found = equal_loss(curves, budget)
    assert (found.threshold, found.kept, found.cost) == expected
    if other >= budget:
        assert equal_loss(curves, other).cost >= found.cost
        assert equal_loss(curves, other).threshold <= found.threshold


def test_a_sensitive_layer_keeps_more():
    kept = np.array([1, 2, 3, 4])
    curves = {
        "robust": Levels(kept, np.array([0.3, 0.2, 0.1, 0.0]), kept * 1.0),
        "sensitive": Levels(kept, np.array([9.0, 3.2, 2.25, 2.0]), kept * 1.0),
    }
    found = equal_loss(curves, 4)
    assert found.kept == {"robust": 1, "sensitive": 3}
    assert found.threshold == pytest.approx(0.3)
