"""Random groups and level tables for the allocation tests."""

import numpy as np
from hypothesis import strategies as st

from tasks.allocate.levels import Levels
from tasks.allocate.units import Units

BOTH = st.booleans()


@st.composite
def units(draw, empty=BOTH):
    parts = draw(st.sampled_from([1, 1, 2, 3]))
    count = parts * draw(st.integers(1, 12))
    # few distinct values, so that ties are common; eighths, so that sums are exact
    scores = draw(st.lists(st.integers(0, 20).map(lambda v: v / 8), min_size=count, max_size=count))
    return Units(
        np.array(scores),
        cost=draw(st.sampled_from([1.0, 3.0, 40.0])),
        align=draw(st.sampled_from([1, 2, 4])),
        parts=parts,
        empty=draw(empty),
        dense=count + draw(st.integers(0, 5)),
    )


def groups(**kwargs):
    return st.lists(units(**kwargs), min_size=1, max_size=5).map(lambda found: dict(enumerate(found)))


@st.composite
def tables(draw, whole=True, most=4):
    """Level tables with whole costs (or any), neither losses nor costs monotone."""
    found = {}
    for number in range(draw(st.integers(1, most))):
        size = draw(st.integers(1, 5))
        kept = draw(st.lists(st.integers(0, 30), min_size=size, max_size=size, unique=True).map(sorted))
        loss = draw(st.lists(st.integers(-5, 50).map(lambda v: v / 8), min_size=size, max_size=size))
        price = st.integers(0, 40) if whole else st.floats(0, 40)
        cost = draw(st.lists(price, min_size=size, max_size=size))
        found[number, "kind"] = Levels(np.array(kept), np.array(loss), np.array(cost, dtype=float))
    return found


def check_levels(groups, kept):
    """Alignment, balance and the last unit; for every allocation of `groups`."""
    for key, group in groups.items():
        count = kept[key]
        total = len(group.scores)
        assert count == total or (count % group.align == 0 and 0 <= count < total)
        assert count > 0 or group.empty
        best = group.best(count)
        assert len(set(best)) == count
        by_part = np.bincount(np.array(best, dtype=int) // (total // group.parts), minlength=group.parts)
        assert (by_part == count // group.parts).all()
