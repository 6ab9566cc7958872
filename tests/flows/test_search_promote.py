"""Which trials go on, against a naive ranking."""

import math

import numpy as np
import pytest

from flows.search.promote import expected, from_ideal, fronts, goes_on, ranking


@pytest.mark.parametrize("seed", range(5))
def test_fronts_are_those_of_a_naive_peeling(seed: int) -> None:
    losses = np.random.default_rng(seed).integers(0, 6, (30, 2)).astype(float)
    left, expected, number = set(range(30)), {}, 0
    while left:
        free = {i for i in left if not any(all(losses[j] <= losses[i]) and any(losses[j] < losses[i]) for j in left)}
        expected |= dict.fromkeys(free, number)
        left -= free
        number += 1
    assert fronts(losses).tolist() == [expected[i] for i in range(30)]


def test_the_balanced_come_first() -> None:
    front = np.array([[0.0, 1.0], [0.2, 0.3], [1.0, 0.0]])
    assert from_ideal(front) == pytest.approx([1.0, np.hypot(0.2, 0.3), 1.0])
    losses = np.array([*front, [0.3, 0.3]])
    assert ranking(losses, [0, 0, 0, 0]) == [1, 0, 2, 3]
    assert ranking(losses, [0.2, 0.1, -0.1, 0]) == [2, 3, 1, 0]


def test_training_is_expected_to_give_back_what_it_gave_back_before() -> None:
    assert expected(0.1, []) == 0.1
    assert expected(0.1, [(0.2, 0.1), (0.4, 0.1), (0.1, 0.3)]) == pytest.approx(0.05)
    assert expected(-0.01, [(0.2, 0.1)]) == -0.01


def test_one_of_so_many_goes_on() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((90, 1)).tolist()
    went = [goes_on(own, values[:at], [0] * (at + 1), 3) for at, own in enumerate(values)]
    naive = [sorted(values[: at + 1]).index(own) < math.ceil((at + 1) / 3) for at, own in enumerate(values)]
    assert went == naive
    assert went[0]
    assert 20 < sum(went) < 50
