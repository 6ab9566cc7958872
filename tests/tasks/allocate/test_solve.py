"""The solver against brute force and against an integer programme."""

from itertools import product

import numpy as np
import pytest
from allocate_examples import tables
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from tasks.allocate.levels import Levels
from tasks.allocate.solve import solve
from tasks.core.errors import UserError


def span(levels):
    """Cells so that whole costs are whole numbers of cells."""
    return max(1, int(sum(np.ptp(table.cost) for table in levels.values())))


def brute(levels, budget):
    """Smallest loss, and the smallest cost with it."""
    best = None
    for pick in product(*(range(len(table.kept)) for table in levels.values())):
        chosen = list(zip(levels.values(), pick, strict=True))
        cost = sum(table.cost[i] for table, i in chosen)
        if cost <= budget:
            value = (sum(table.loss[i] for table, i in chosen), cost)
            best = value if best is None else min(best, value)
    return best


def value(levels, kept):
    places = {key: int(np.flatnonzero(levels[key].kept == count)[0]) for key, count in kept.items()}
    return sum(levels[k].loss[i] for k, i in places.items()), sum(levels[k].cost[i] for k, i in places.items())


@settings(deadline=None)
@given(tables(), st.integers(0, 160))
def test_whole_costs_are_solved_exactly(levels, budget):
    expected = brute(levels, budget)
    if expected is None:
        smallest = sum(table.cost.min() for table in levels.values())
        with pytest.raises(UserError, match=f"still {smallest:.6g}"):
            solve(levels, budget, span(levels))
        return
    found = solve(levels, budget, span(levels))
    assert (found.loss, found.cost) == expected == value(levels, found.kept)
    assert list(found.kept) == list(levels)


@settings(deadline=None, max_examples=50)
@given(tables(most=7), st.integers(0, 200))
def test_agrees_with_an_integer_programme(levels, budget):
    loss, cost = (np.concatenate([getattr(t, name) for t in levels.values()]) for name in ("loss", "cost"))
    owner = np.repeat(np.arange(len(levels)), [len(table.kept) for table in levels.values()])
    one_each = LinearConstraint((owner == np.arange(len(levels))[:, None]).astype(float), 1, 1)
    within = LinearConstraint(cost[None], -np.inf, budget)
    other = milp(loss, integrality=np.ones(len(loss)), bounds=Bounds(0, 1), constraints=[one_each, within])
    if other.x is None:
        with pytest.raises(UserError):
            solve(levels, budget, span(levels))
    else:
        assert solve(levels, budget, span(levels)).loss == pytest.approx(other.fun, abs=1e-6)


def some(seed):
    """Four groups of five levels; losses are whole and small, so that many allocations lose the same."""
    generator = np.random.default_rng(seed)
    kept = np.arange(5)
    return {n: Levels(kept, generator.integers(0, 9, 5) * 1.0, generator.random(5) * 9) for n in range(4)}


@settings(deadline=None, max_examples=300)
@given(
    tables(whole=False) | st.integers(0, 10**6).map(some), st.floats(0, 1), st.floats(0, 1), st.integers(1, 60)
)  # fmt: skip
def test_any_costs_at_any_resolution(levels, share, other, resolution):
    """The budget holds, a smaller one never costs more or loses less, and costs rounded up are solved exactly."""
    smallest, largest = (sum(float(f(table.cost)) for table in levels.values()) for f in (np.min, np.max))
    budget, other = (smallest + part * (largest - smallest) for part in (share, other))
    found = solve(levels, budget, resolution)
    assert value(levels, found.kept) == (pytest.approx(found.loss), pytest.approx(found.cost))
    assert found.cost <= budget * (1 + 1e-9)
    assert found.loss >= brute(levels, budget * (1 + 1e-9))[0]
    cell = sum(float(np.ptp(table.cost)) for table in levels.values()) / resolution or 1.0
    rounded = {
        key: Levels(t.kept, t.loss, np.ceil((t.cost - t.cost.min()) / cell * (1 + 1e-9))) for key, t in levels.items()
    }
    assert found.loss <= brute(rounded, (budget - smallest) / cell)[0]
    if other >= budget:
        more = solve(levels, other, resolution)
        assert more.cost >= found.cost
        assert more.loss <= found.loss


@pytest.mark.parametrize("unit", [0.1, 0.7, 1e-3, 3e-7])
def test_costs_that_are_whole_cells_but_for_rounding(unit):
    """Sums of 0.1 are not multiples of 0.1 in floating point; they must not take a cell more."""
    kept = np.arange(12)
    levels = {n: Levels(kept, np.cos(7 * n + kept), np.cumsum(np.full(12, unit))) for n in range(3)}
    whole = {n: Levels(kept, table.loss, kept + 1.0) for n, table in levels.items()}
    for budget in range(3, 37):
        found = solve(levels, budget * unit * (1 + 1e-13), 33)
        assert found.loss == pytest.approx(brute(whole, budget)[0])


def test_large_enough_for_a_real_model():
    """24 groups, 30 levels, 10,000 cells: within a cell per group of the linear relaxation's optimum."""
    generator = np.random.default_rng(0)
    kept = np.arange(30)
    levels = {n: Levels(kept, generator.random() * (1 - kept / 29) ** 2, kept * generator.random()) for n in range(24)}
    budget = 0.5 * sum(table.cost[-1] for table in levels.values())
    found = solve(levels, budget)
    # convex curves: taking the steps of largest gain per cost is the relaxation's optimum
    steps = sorted(
        (
            (t.loss[i] - t.loss[i + 1]) / (t.cost[i + 1] - t.cost[i]),
            t.cost[i + 1] - t.cost[i],
            t.loss[i] - t.loss[i + 1],
        )
        for t in levels.values()
        for i in range(29)
    )[::-1]
    bound, left = sum(table.loss[0] for table in levels.values()), budget
    for _, cost, gain in steps:
        share = min(1.0, left / cost)
        bound, left = bound - share * gain, left - share * cost
    assert found.cost <= budget
    assert bound - 1e-9 <= found.loss <= bound * 1.002


def test_no_cells_are_refused():
    with pytest.raises(UserError, match="1 cell or more"):
        solve({0: Levels(np.array([1]), np.zeros(1), np.zeros(1))}, 1, 0)
