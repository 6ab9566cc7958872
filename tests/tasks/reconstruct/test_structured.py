"""The greedy curve is that of plain OBS, of brute force, and of least squares on what is kept."""

import numpy as np
import pytest
import torch
from correlated import gram_of, layer, lstsq

from tasks.core.errors import UserError
from tasks.reconstruct import structured
from tasks.reconstruct.gram import damped
from tasks.reconstruct.least_squares import least_squares
from tasks.reconstruct.structured import greedy_removal, remaining

SINGLE = [[j] for j in range(12)]
HEADS = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
SCATTERED = [[0, 6], [1, 7, 11], [5], [3, 2, 10]]


def plain(weight, gram, blocks, count):
    """OBS as the papers write it, in numpy: order, cumulative relative error, and the weights at the end."""
    weight, gram = np.array(weight), np.array(gram)
    inverse = np.linalg.inv(gram)
    whole = np.trace(weight @ gram @ weight.T)
    left, order, errors = list(range(len(blocks))), [], []
    for _ in range(count):
        rises = {}
        for block in left:
            members = blocks[block]
            within = np.linalg.inv(inverse[np.ix_(members, members)])
            rises[block] = np.trace(weight[:, members] @ within @ weight[:, members].T)
        best = min(left, key=rises.get)
        errors.append(rises[best])
        members = blocks[best]
        gain = np.linalg.inv(inverse[np.ix_(members, members)]) @ inverse[members]
        weight = weight - weight[:, members] @ gain
        inverse = inverse - inverse[:, members] @ gain
        left.remove(best)
        order.append(best)
    return order, np.cumsum(errors) / whole, weight


def brute(weight, x, blocks, count):
    """The same choice by trying each block and solving the rows with numpy."""
    y, order, errors = x @ weight.T, [], []

    def error(block):
        kept = remaining(x.shape[1], blocks, [*order, block])
        return float(((y - x[:, kept] @ torch.from_numpy(lstsq(x[:, kept], y))) ** 2).sum() / (y**2).sum())

    for _ in range(count):
        best = min(set(range(len(blocks))) - set(order), key=error)
        errors.append(error(best))
        order.append(best)
    return order, errors


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("blocks", [SINGLE, HEADS, SCATTERED], ids=["single", "heads", "scattered"])
def test_brute_force_and_plain_obs(blocks, seed):
    weight, x = layer(seed)
    gram = gram_of(x)
    count = len(blocks) - 1
    found = greedy_removal(weight, gram.matrix, blocks, count)
    order, errors, updated = plain(weight, gram.matrix, blocks, count)
    assert found.order == order
    np.testing.assert_allclose(found.error, errors, rtol=1e-6)
    order, errors = brute(weight, x, blocks, count)
    assert found.order == order
    np.testing.assert_allclose(found.error, errors, rtol=1e-6)
    kept = remaining(12, blocks, found.order)
    fit = least_squares(weight, gram, kept, damping=0)
    np.testing.assert_allclose(updated[:, kept.numpy()], fit.weight, rtol=1e-5)
    assert float(found.error[-1]) == pytest.approx(fit.error, rel=1e-6)


@pytest.mark.parametrize("pending", [1, 3, 128])
def test_pending_updates_change_nothing(pending, monkeypatch):
    """More columns than pending ones, so that the matrices are brought up to date in between."""
    weight, x = layer(3, features=40)
    blocks = [[2 * j, 2 * j + 1] for j in range(20)]
    matrix = damped(gram_of(x).matrix, 0.01)
    monkeypatch.setattr(structured, "PENDING", pending)
    found = greedy_removal(weight, matrix, blocks)
    order, errors, _ = plain(weight, matrix, blocks, 20)
    assert found.order == order
    np.testing.assert_allclose(found.error, errors, rtol=1e-8)
    assert float(found.error[-1]) == pytest.approx(1)


def test_with_damping_updates_are_still_the_damped_fit():
    weight, x = layer(4)
    gram = gram_of(x)
    _, _, updated = plain(weight, damped(gram.matrix, 0.05), SINGLE, 6)
    kept = remaining(12, SINGLE, greedy_removal(weight, damped(gram.matrix, 0.05), SINGLE, 6).order)
    fit = least_squares(weight, gram, kept, damping=0.05)
    np.testing.assert_allclose(updated[:, kept.numpy()], fit.weight, rtol=1e-7)


@pytest.mark.parametrize("blocks", [SINGLE, SCATTERED], ids=["single", "scattered"])
def test_several_a_step_have_exact_errors(blocks):
    weight, x = layer(5)
    gram = gram_of(x)
    found = greedy_removal(weight, gram.matrix, blocks, step=3)
    assert sorted(found.order) == list(range(len(blocks)))
    for removed in range(1, len(blocks)):
        kept = remaining(12, blocks, found.order[:removed])
        if len(kept):
            fit = least_squares(weight, gram, kept, damping=0)
            assert float(found.error[removed - 1]) == pytest.approx(fit.error, rel=1e-6)
    exact = greedy_removal(weight, gram.matrix, blocks)
    assert found.order[0] == exact.order[0]


def test_fitted_to_a_dense_model_the_choice_of_blocks_is_the_same_problem():
    """Errors then are those of the fit on the dense output, less the part that no choice can reach."""
    weight, dense = layer(6)
    x = dense + 0.5 * torch.randn(200, 12, dtype=torch.float64)
    gram = gram_of(x, dense @ weight.T)
    full = least_squares(weight, gram, torch.arange(12), damping=0)
    found = greedy_removal(full.weight, gram.matrix, SINGLE, 7)
    kept = remaining(12, SINGLE, found.order)
    fit = least_squares(weight, gram, kept, damping=0)
    again = least_squares(full.weight, gram_of(x), kept, damping=0)
    np.testing.assert_allclose(fit.weight, again.weight, rtol=1e-7)
    whole = ((dense @ weight.T) ** 2).sum()
    reached = ((x @ full.weight.T) ** 2).sum()
    assert fit.error * float(whole) == pytest.approx(float(full.error * whole + found.error[-1] * reached), rel=1e-7)


def test_greedy_beats_magnitude_after_the_same_fit():
    """On average: half of the columns, all refitted."""
    ratios = []
    for seed in range(10):
        weight, x = layer(seed, features=24)
        gram = gram_of(x)
        kept = remaining(24, [[j] for j in range(24)], weight.norm(dim=0).argsort()[:12].tolist())
        greedy = greedy_removal(weight, gram.matrix, [[j] for j in range(24)], 12).error[-1]
        ratios.append(float(greedy) / least_squares(weight, gram, kept, damping=0).error)
    assert np.mean(ratios) < 0.7


def test_a_large_badly_conditioned_layer():
    """256 neurons, condition above 1e8 before damping: the last errors are still those of the fit."""
    weight, x = layer(7, out=16, features=256, tokens=400, decay=9)
    gram = gram_of(x)
    matrix = damped(gram.matrix, 1e-4)
    blocks = [[j] for j in range(256)]
    found = greedy_removal(weight, matrix, blocks)
    for removed in (1, 128, 250):
        kept = remaining(256, blocks, found.order[:removed])
        fitted = weight @ matrix[:, kept] @ torch.linalg.inv(matrix[kept][:, kept])
        change = weight.index_add(1, kept, fitted, alpha=-1)
        exact = ((change @ matrix) * change).sum() / ((weight @ matrix) * weight).sum()
        assert float(found.error[removed - 1]) == pytest.approx(float(exact), rel=1e-4)
    assert (found.error.diff() > -1e-12).all()


def test_edges():
    weight, x = layer(8)
    gram = gram_of(x).matrix
    nothing = greedy_removal(weight, gram, SINGLE, 0)
    assert nothing.order == []
    assert nothing.error.shape == (0,)
    assert greedy_removal(weight * 0, gram, SINGLE).error.tolist() == [0.0] * 12
    for blocks in ([[0, 1], [1, 2]], [[0], []], []):
        with pytest.raises(ValueError, match="disjoint"):
            greedy_removal(weight, gram, blocks)
    with pytest.raises(UserError, match="damping"):
        greedy_removal(weight, x[:3].T @ x[:3], SINGLE)
