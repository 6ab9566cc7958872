"""`secateur solve`: what is asked for, and how the share of the time is found that is fast enough when measured."""

import re

import pytest

from flows.progress import Progress
from flows.search.solve import _tried, goal
from tasks.core.errors import UserError
from tasks.recipe.load import resolve

WHOLE = 6.0


class Planted:
    """A model is slower than the table says by a tenth."""

    def __init__(self, least: float = 0.0) -> None:
        self.least, self.asked = least, []

    def times(self, recipe):
        assert recipe.prune.timed
        return {"dense": [WHOLE / 1000, 1.0], "whole": [1 / 1000, 1.0]}

    def reach(self, recipe, name, level, timed, exact):
        assert (name, level, timed, exact) == (f"level{len(self.asked)}", 0, True, True)
        (found,) = recipe.prune.goals
        assert (found.cost, recipe.prune.allocation) == ("latency", "solve")
        self.asked.append(1 - found.share)
        return {"speedup_b1": WHOLE / (1.1 * max(self.asked[-1], self.least)), "drop": 0.01}


def tried(bench, wanted):
    return _tried(bench, resolve(None, []), "latency", wanted, Progress())


def test_a_speed_is_asked_of_the_table_then_measured_and_asked_for_more():
    bench = Planted()
    solved, found = tried(bench, 12.0)
    assert bench.asked[0] == pytest.approx(WHOLE / 12)
    assert bench.asked[-1] == pytest.approx(1 - solved.prune.goals[0].share)
    assert found["speedup_b1"] >= 12
    assert len(bench.asked) == 2


def test_what_is_fast_enough_already_or_never_will_be():
    with pytest.raises(UserError, match=re.escape("dense is 6.00× as fast already")):
        tried(Planted(), 5.0)
    with pytest.raises(UserError, match=re.escape("12× as fast is out of reach: 7.79× after 5 cuts")):
        tried(Planted(least=0.7), 12.0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((None, None, None), "give one of"),
        (("2x", 0.5, None), "give one of"),
        (("fast", None, None), "must be how many times"),
        (("0.5x", None, None), "must be above 1x"),
        ((None, 1.5, None), "must be between 0 and 1"),
    ],
)
def test_what_cannot_be_asked_for(given, said):
    with pytest.raises(UserError, match=said):
        goal(*given)


def test_what_can():
    assert goal("2.5x", None, None) == ("latency", 2.5)
    assert goal(None, None, 0.4) == ("parameters", 0.4)
