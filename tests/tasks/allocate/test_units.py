import numpy as np
import pytest
from allocate_examples import units
from hypothesis import given

from tasks.allocate.levels import Levels, estimate
from tasks.allocate.units import Units, normalized


@given(units())
def test_levels_are_all_aligned_and_balanced_counts(group):
    count = len(group.scores)
    naive = [
        kept
        for kept in range(count + 1)
        if kept == count or (kept % group.align == 0 and kept % group.parts == 0 and (kept or group.empty))
    ]
    assert group.levels().tolist() == naive


@given(units())
def test_the_best_of_every_part_stay(group):
    for count in group.levels():
        best = set(group.best(int(count)))
        for part in np.arange(len(group.scores)).reshape(group.parts, -1).tolist():
            stay = [group.scores[unit] for unit in part if unit in best]
            assert sorted(stay, reverse=True) == sorted(group.scores[part], reverse=True)[: len(stay)]


def test_few_levels_are_spread_over_all_denser_where_few_units_stay():
    assert Units(np.zeros(100), align=4).levels(4).tolist() == [4, 16, 48, 100]
    assert Units(np.zeros(3)).levels(4).tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="make 2"):
        Units(np.zeros(9)).levels(1)


def test_an_emptied_group_stays_empty():
    assert Units(np.zeros(0), dense=4).levels().tolist() == [0]
    assert Units(np.zeros(0), dense=4).best(0) == []


def test_normalized_scores_have_length_one():
    found = normalized({"a": Units(np.array([3.0, 4.0]), cost=7), "b": Units(np.zeros(2))})
    np.testing.assert_allclose(found["a"].scores, [0.6, 0.8])
    assert found["a"].cost == 7
    assert found["b"].scores.tolist() == [0, 0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"scores": np.array([1.0, np.nan])},
        {"scores": np.ones((2, 2))},
        {"scores": np.ones(4), "parts": 3},
        {"scores": np.ones(4), "align": 0},
        {"scores": np.ones(4), "cost": 0.0},
        {"scores": np.ones(4), "dense": 3},
    ],
)
def test_what_no_group_is(wrong):
    with pytest.raises(ValueError):  # noqa: PT011
        Units(**wrong)


@given(units())
def test_estimated_loss_is_what_the_removed_units_score(group):
    table = estimate(group, lambda kept: kept * 2.0)
    assert table.kept.tolist() == group.levels().tolist()
    for kept, loss in zip(table.kept, table.loss, strict=True):
        gone = set(range(len(group.scores))) - set(group.best(int(kept)))
        assert loss == pytest.approx(sum(group.scores[unit] for unit in gone))


def test_an_infinite_score_is_never_removed():
    table = estimate(Units(np.array([1.0, np.inf, 2.0]), empty=True), lambda kept: kept * 1.0)
    assert table.kept.tolist() == [1, 2, 3]
    assert table.loss.tolist() == [3.0, 1.0, 0.0]


@pytest.mark.parametrize("wrong", [([2, 1], [0, 0], [0, 0]), ([1], [0, 0], [0]), ([], [], []), ([1], [np.inf], [0])])
def test_what_no_levels_are(wrong):
    with pytest.raises(ValueError, match="levels"):
        Levels(*map(np.array, wrong))
