"""Which trials go on, against a naive ranking."""

import math

import numpy as np
import pytest
from optuna._hypervolume import compute_hypervolume

from flows.search.promote import expected, from_ideal, fronts, goes_on, hypervolume, ranking


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


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_hypervolumes_are_those_of_optuna(objectives: int) -> None:
    losses, corner = np.random.default_rng(objectives).random((12, objectives)), np.full(objectives, 0.8)
    inside = losses[(losses < corner).all(axis=1)]
    assert hypervolume(losses, corner) == pytest.approx(compute_hypervolume(inside, corner))
    assert hypervolume(losses + 1, corner) == 0.0


def test_the_balanced_come_first() -> None:
    front = np.array([[0.0, 1.0], [0.2, 0.3], [1.0, 0.0]])
    assert from_ideal(front) == pytest.approx([1.0, np.hypot(0.2, 0.3), 1.0])
    losses = np.array([*front, [0.3, 0.3]])
    assert ranking(losses, [0, 0, 0, 0]) == [1, 0, 2, 3]
    assert ranking(losses, [0.2, 0.1, -0.1, 0]) == [2, 3, 1, 0]


def test_training_is_expected_to_give_back_what_it_gave_back_before() -> None:
    assert [expected(drop, [], 0.02) for drop in (0.0, 0.04, 0.1)] == pytest.approx([0.0, 0.02, 0.05])
    known = [(0.01, 0.01), (0.03, 0.005), (0.2, 0.1)]
    line = np.polyfit(*np.array([(0, 0), (0.04, 0.02), *known]).T, 1)
    assert expected(0.1, known, 0.02) == pytest.approx(np.polyval(line, 0.1))
    assert expected(0.9, [(0.0, 0.5)], 0.02) == pytest.approx(0.52 / 3)  # what loses more is not foreseen to be better


def test_one_of_so_many_goes_on() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((90, 1)).tolist()
    went = [goes_on(own, values[:at], [0] * (at + 1), 3) for at, own in enumerate(values)]
    naive = [sorted(values[: at + 1]).index(own) < math.ceil((at + 1) / 3) for at, own in enumerate(values)]
    assert went == naive
    assert went[0]
    assert 20 < sum(went) < 50
