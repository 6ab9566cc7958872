from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import UserError
from tasks.recipe.cubic import cubic, ratio_at


def test_ratios_by_hand():
    assert cubic(0.8, 4) == pytest.approx([0.4625, 0.7, 0.7875, 0.8])
    assert cubic(0.5, 2, start=0.1) == pytest.approx([0.45, 0.5])
    assert cubic(0.6, 1) == [0.6]
    assert [ratio_at(p, 0.9, 0.1) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.1, 0.8, 0.9])


@given(st.floats(0, 1), st.integers(1, 20), st.floats(0, 1))
def test_rises_in_ever_smaller_steps_to_the_final_ratio(final, rounds, start):
    start, final = sorted((start, final))
    ratios = cubic(final, rounds, start)
    steps = [b - a for a, b in zip([start, *ratios], ratios, strict=False)]
    assert len(ratios) == rounds
    assert ratios[-1] == final
    assert all(step >= -1e-12 for step in steps)
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(steps))


@pytest.mark.parametrize("wrong", [(0.5, 0, 0.0), (1.1, 2, 0.0), (0.2, 2, 0.3), (0.2, 2, -0.1)])
def test_wrong_schedules_are_refused(wrong):
    with pytest.raises(UserError, match="A cubic schedule"):
        cubic(*wrong)
