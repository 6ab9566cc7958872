import numpy as np
import pytest
from allocate_examples import check_levels, groups
from hypothesis import given
from hypothesis import strategies as st

from tasks.allocate import uniform
from tasks.allocate.cost import Linear
from tasks.allocate.units import Units
from tasks.core.errors import UserError


@given(groups(), st.floats(0, 1))
def test_every_group_keeps_its_share_to_the_nearest_level(found, ratio):
    kept = uniform.by_ratio(found, ratio).kept
    check_levels(found, kept)
    for key, group in found.items():
        wanted = group.full * (1 - ratio)
        nearest = min(abs(int(level) - wanted) for level in group.levels())
        assert abs(kept[key] - wanted) <= nearest + 1e-9


def test_of_two_equally_near_levels_the_larger_stays():
    found = uniform.by_ratio({5: Units(np.zeros(5)), 15: Units(np.zeros(15), cost=2)}, 0.3)
    assert found.kept == {5: 4, 15: 11}  # 3.5 and 10.5, the latter less in floating point
    assert found.cost == 26


@given(groups(), st.floats(0, 600), st.floats(0, 600))
def test_budget_keeps_the_largest_share_that_fits(found, budget, other):
    costs = {key: Linear(group.cost, fixed=2.0) for key, group in found.items()}

    def price(kept):
        return sum(float(costs[key](np.array([count]))[0]) for key, count in kept.items())

    prices = [price(uniform.by_ratio(found, ratio).kept) for ratio in np.linspace(0, 1, 60)]
    smallest = price(uniform.by_ratio(found, 1.0).kept)
    if smallest > budget:
        with pytest.raises(UserError, match=f"{smallest:.6g}"):
            uniform.by_budget(found, costs, budget)
        return
    chosen = uniform.by_budget(found, costs, budget)
    check_levels(found, chosen.kept)
    assert chosen.cost == pytest.approx(price(chosen.kept))
    assert chosen.cost <= budget
    assert chosen.cost >= max(p for p in prices if p <= budget)
    if smallest <= other <= budget:
        assert uniform.by_budget(found, costs, other).cost <= chosen.cost
