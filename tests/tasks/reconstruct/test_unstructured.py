"""SparseGPT against OBS with explicit inverses, least squares of each row, and masks without an update."""

import numpy as np
import pytest
import torch
from correlated import gram_of, layer, lstsq

from tasks.core.errors import UserError
from tasks.reconstruct.least_squares import output_error
from tasks.reconstruct.masks import by_pattern, by_ratio, magnitude, wanda
from tasks.reconstruct.unstructured import sparsegpt


def explicit(weight, gram, choose):
    """Column by column with the inverse of what is free; `choose(weights, costs, column, mask)` sets the mask."""
    weight, size = np.array(weight), len(gram)
    mask = np.ones(weight.shape, bool)
    costs = [np.linalg.inv(np.asarray(gram)[j:, j:])[0, 0] for j in range(size)]
    for j in range(size):
        choose(weight, np.array(costs), j, mask)
        inverse = np.linalg.inv(np.asarray(gram)[j:, j:])
        lost = np.where(mask[:, j], 0, weight[:, j])
        weight[:, j:] -= np.outer(lost, inverse[0] / inverse[0, 0])
    return np.where(mask, weight, 0), mask


def optimal(weight, x, mask):
    """Each row's least-squares weights on what its mask keeps."""
    best = torch.zeros_like(weight)
    for row, kept in enumerate(mask):
        best[row, kept] = torch.from_numpy(lstsq(x[:, kept], x @ weight[row]))
    return best


@pytest.mark.parametrize("block", [1, 5, 128])
def test_a_fixed_mask_is_compensated_as_the_explicit_inverse_does(block):
    weight, x = layer(0, out=6, features=16)
    gram = gram_of(x).matrix
    fixed = by_ratio(wanda(weight, gram), 0.5)
    expected, _ = explicit(weight, gram, lambda w, c, j, mask: mask.__setitem__(slice(None), fixed.numpy()))
    found, mask = sparsegpt(weight, gram, mask=fixed, block=block, damping=0)
    assert mask.equal(fixed)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


def test_a_pattern_is_chosen_group_by_group_on_the_updated_weights():
    weight, x = layer(1, out=6, features=16)
    gram = gram_of(x).matrix

    def two_of_four(current, costs, column, mask):
        if column % 4 == 0:
            group = slice(column, column + 4)
            rank = (current[:, group] ** 2 / costs[group]).argsort(1).argsort(1)
            mask[:, group] = rank >= 2

    expected, expected_mask = explicit(weight, gram, two_of_four)
    for block in (4, 6, 128):
        found, mask = sparsegpt(weight, gram, pattern=(2, 4), block=block, damping=0)
        np.testing.assert_array_equal(mask, expected_mask)
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


def test_a_ratio_is_chosen_block_by_block_on_the_updated_weights():
    weight, x = layer(2, out=6, features=16)
    gram = gram_of(x).matrix

    def half(current, costs, column, mask):
        if column % 8 == 0:
            group = slice(column, column + 8)
            scores = current[:, group] ** 2 / costs[group]
            mask[:, group] = scores > np.sort(scores.ravel())[23]

    expected, expected_mask = explicit(weight, gram, half)
    found, mask = sparsegpt(weight, gram, ratio=0.5, block=8, damping=0)
    np.testing.assert_array_equal(mask, expected_mask)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("rule", ["ratio", "pattern"])
def test_update_below_wanda_below_magnitude_above_the_optimum(rule):
    """Error of the output on correlated inputs whose scale varies, on average; the optimum is that of the same mask."""
    errors = []
    for seed in range(12):
        weight, x = layer(seed, out=24, features=32, tokens=300)
        x = x * torch.logspace(-0.5, 0.5, 32)[torch.randperm(32, generator=torch.Generator().manual_seed(seed))]
        gram = gram_of(x)

        def choose(scores):
            return by_ratio(scores, 0.5) if rule == "ratio" else by_pattern(scores, 2, 4)

        rules = {"ratio": 0.5} if rule == "ratio" else {"pattern": (2, 4)}
        updated, mask = sparsegpt(weight, gram.matrix, **rules, block=8, damping=1e-4)
        plain = [weight * choose(scores) for scores in (wanda(weight, gram.matrix), magnitude(weight))]
        candidates = [optimal(weight, x, mask), updated, *plain]
        errors.append([output_error(weight, candidate, gram) for candidate in candidates])
        assert errors[-1][0] < errors[-1][1] < errors[-1][2]
    best, update, of_wanda, of_magnitude = np.mean(errors, axis=0)
    assert best < update < 0.75 * of_wanda < 0.75 * of_magnitude


@pytest.mark.parametrize("ratio", [0.0, 0.33, 0.7, 1.0])
def test_sparsity_is_exact_also_over_uneven_blocks(ratio):
    weight, x = layer(3, out=7, features=13)
    found, mask = sparsegpt(weight, gram_of(x).matrix, ratio=ratio, block=4)
    assert (found == 0).sum() == (~mask).sum() == round(ratio * 7 * 13)
    if ratio == 0:
        assert found.equal(weight)


def test_pattern_holds_in_every_group_and_types_stay():
    weight, x = layer(4, out=7, features=24)
    found, mask = sparsegpt(weight.float(), gram_of(x).matrix, pattern=(2, 8), block=20)
    assert found.dtype == torch.float32
    assert ((found != 0).view(7, 3, 8).sum(2) == 2).all()
    assert mask.equal(found != 0)


def test_one_mask_for_all_rows_removed_last_is_least_squares():
    """With every removed column left of the kept ones, no column misses an update."""
    weight, x = layer(5)
    mask = torch.ones(5, 12, dtype=torch.bool)
    mask[:, :5] = False
    found, _ = sparsegpt(weight, gram_of(x).matrix, mask=mask, damping=0)
    np.testing.assert_allclose(found, optimal(weight, x, mask), rtol=1e-6, atol=1e-9)


def test_inputs_are_left_as_they_were():
    weight, x = layer(6)
    gram, mask = gram_of(x).matrix, torch.rand(5, 12) > 0.5
    before = weight.clone(), gram.clone(), mask.clone()
    sparsegpt(weight, gram, mask=mask)
    assert all(one.equal(other) for one, other in zip(before, (weight, gram, mask), strict=True))


def test_mistakes_are_said():
    weight, x = layer(7)
    gram = gram_of(x).matrix
    with pytest.raises(ValueError, match="one of ratio"):
        sparsegpt(weight, gram)
    with pytest.raises(ValueError, match="one of ratio"):
        sparsegpt(weight, gram, ratio=0.5, pattern=(2, 4))
    with pytest.raises(UserError, match="divide by 5"):
        sparsegpt(weight, gram, pattern=(2, 5))
    with pytest.raises(UserError, match="from 0 to 1"):
        sparsegpt(weight, gram, ratio=2)
    with pytest.raises(UserError, match="damping"):
        sparsegpt(weight, torch.zeros(12, 12), ratio=0.5, damping=0)
