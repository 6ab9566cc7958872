import numpy as np
import pytest
from allocate_examples import check_levels, groups
from hypothesis import given
from hypothesis import strategies as st

from tasks.allocate import ranked
from tasks.allocate.units import Units
from tasks.core.errors import UserError


def price(found, kept):
    return sum(count * found[key].cost for key, count in kept.items())


def least(found):
    return sum(int(group.levels()[0]) * group.cost for group in found.values())


@given(groups(), st.floats(0, 1))
def test_ratio_removes_its_share_of_the_cost(found, ratio):
    chosen = ranked.by_ratio(found, ratio)
    check_levels(found, chosen.kept)
    assert chosen.cost == pytest.approx(price(found, chosen.kept))
    wanted = (1 - ratio) * sum(group.full * group.cost for group in found.values())
    there = sum(len(group.scores) * group.cost for group in found.values())
    half = max(group.block * group.cost for group in found.values()) / 2 + 1e-6
    assert min(wanted, there) - half <= chosen.cost <= max(wanted + half, least(found))


@given(groups(), st.floats(0, 1500), st.floats(0, 1500))
def test_budget_holds_and_a_smaller_one_keeps_a_part(found, budget, other):
    small, large = sorted((budget, other))
    if least(found) > small:
        with pytest.raises(UserError, match=f"{least(found):.6g}"):
            ranked.by_budget(found, small)
        return
    less, more = ranked.by_budget(found, small), ranked.by_budget(found, large)
    for chosen, limit in ((less, small), (more, large)):
        check_levels(found, chosen.kept)
        assert chosen.cost == pytest.approx(price(found, chosen.kept))
        assert chosen.cost <= limit
    assert all(less.kept[key] <= more.kept[key] for key in found)


@given(groups(), st.floats(0, 1500))
def test_budget_takes_the_blocks_of_highest_score_per_cost(found, budget):
    """Against a naive loop: again and again the best next block of any group, until it does not fit."""
    kept = {key: int(group.levels()[0]) for key, group in found.items()}
    if price(found, kept) > budget:
        return
    while True:
        options = []
        for number, (key, group) in enumerate(found.items()):
            larger = group.levels()[group.levels() > kept[key]]
            if len(larger):
                new = set(group.best(int(larger[0]))) - set(group.best(kept[key]))
                mean = float(np.mean([group.scores[unit] for unit in new]))
                options.append((-mean / group.cost, number, key, int(larger[0])))
        if not options:
            break
        _, _, key, level = min(options)
        if price(found, kept) + (level - kept[key]) * found[key].cost > budget:
            break
        kept[key] = level
    assert ranked.by_budget(found, budget).kept == kept


@given(st.lists(st.lists(st.floats(0, 1, width=16), min_size=1, max_size=20), min_size=1, max_size=5), st.data())
def test_one_kind_is_plain_sorting(scores, data):
    found = {number: Units(np.array(layer), cost=5.0, empty=True) for number, layer in enumerate(scores)}
    total = sum(map(len, scores))
    count = data.draw(st.integers(0, total))
    flat = sorted(((-score, number, unit) for number, layer in enumerate(scores) for unit, score in enumerate(layer)))
    naive = {number: sorted(unit for _, n, unit in flat[:count] if n == number) for number in found}
    for chosen in (
        ranked.by_count(found, count),
        ranked.by_ratio(found, 1 - count / total),
        ranked.by_budget(found, 5.0 * count),
    ):
        assert {key: group.best(chosen.kept[key]) for key, group in found.items()} == naive


@given(groups(empty=st.just(True)), st.floats(0, 2))
def test_threshold_keeps_exactly_the_units_at_or_above_it(found, threshold):
    single = {key: Units(group.scores, group.cost, empty=True) for key, group in found.items()}
    chosen = ranked.by_threshold(single, threshold)
    for key, group in single.items():
        assert group.best(chosen.kept[key]) == np.flatnonzero(group.scores >= threshold).tolist()
    assert chosen.cost == pytest.approx(price(single, chosen.kept))
    check_levels(found, ranked.by_threshold(found, threshold).kept)


@given(groups(), st.integers(0, 200))
def test_count_keeps_that_many_units(found, count):
    chosen = ranked.by_count(found, count)
    check_levels(found, chosen.kept)
    units = sum(chosen.kept.values())
    smallest = sum(int(group.levels()[0]) for group in found.values())
    half = max(group.block for group in found.values()) / 2
    there = sum(len(group.scores) for group in found.values())
    assert min(count, there) - half <= units <= max(count + half, smallest)
    assert chosen.cost == pytest.approx(price(found, chosen.kept))


def test_kinds_compare_by_score_per_cost():
    found = {
        (0, "head"): Units(np.array([100.0, 60.0, 20.0]), cost=10),
        (0, "neuron"): Units(np.array([9.0, 7.0, 5.0, 1.0]), cost=1),
    }
    chosen = ranked.by_budget(found, 24)
    assert chosen.kept == {(0, "head"): 2, (0, "neuron"): 3}
    assert (chosen.cost, chosen.threshold) == (23, 5.0)
    assert ranked.by_count(found, 4).kept == {(0, "head"): 3, (0, "neuron"): 1}


def test_query_heads_stay_balanced_over_kv_groups():
    group = Units(np.array([9.0, 8.0, 1.0, 5.0, 2.0, 0.0]), parts=2)
    chosen = ranked.by_count({"q": group}, 4)
    assert group.best(chosen.kept["q"]) == [0, 1, 3, 4]
    assert chosen.threshold == 5.0  # mean of the second best of each part


@given(st.floats(0.01, 1), st.integers(2, 12))
def test_equal_scores_keep_their_blocks_whole(score, align):
    """Means of unequally many equal numbers differ in the last bit; the short block must still go first."""
    group = Units(np.full(2 * align + 1, score), align=align)
    assert ranked.by_count({0: group}, align + 1).kept[0] in group.levels()
