"""Masks against torch.nn.utils.prune, and against the rule counted by hand."""

import numpy as np
import pytest
import torch
from correlated import layer
from torch.nn.utils import prune

from tasks.core.errors import UserError
from tasks.reconstruct.masks import by_pattern, by_ratio, by_threshold, magnitude, wanda


def pruned(scores, ratio, per):
    """The mask that torch gives for these importance scores, for the matrix or each row."""
    if per == "matrix":
        return prune.L1Unstructured(ratio).compute_mask(scores, torch.ones_like(scores)).bool()
    rows = [prune.L1Unstructured(ratio).compute_mask(row, torch.ones_like(row)) for row in scores]
    return torch.stack(rows).bool()


@pytest.mark.parametrize("per", ["row", "matrix"])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.5, 0.97, 1.0])
def test_torch_has_the_same_masks(per, ratio):
    weight, x = layer(0, out=9, features=20)
    for scores in (magnitude(weight), wanda(weight, x.T @ x)):
        assert by_ratio(scores, ratio, per).equal(pruned(scores, ratio, per))


def test_wanda_is_weight_times_input_norm():
    weight, x = layer(1)
    expected = np.abs(weight.numpy()) * np.linalg.norm(x.numpy(), axis=0)
    np.testing.assert_allclose(wanda(weight, x.T @ x), expected, rtol=1e-10)


@pytest.mark.parametrize(("kept", "group"), [(2, 4), (1, 4), (4, 8), (0, 3), (3, 3)])
def test_pattern_keeps_the_highest_of_each_group(kept, group):
    scores = torch.rand(6, 24, generator=torch.Generator().manual_seed(0))
    mask = by_pattern(scores, kept, group)
    for row, chosen in zip(scores.view(-1, group), mask.view(-1, group), strict=True):
        assert set(chosen.nonzero()[:, 0].tolist()) == set(row.sort().indices[group - kept :].tolist())


def test_threshold_is_compared_with_the_score():
    assert by_threshold(torch.tensor([[0.1, 0.2, 0.3]]), 0.2).tolist() == [[False, False, True]]


def test_equal_scores_still_give_the_exact_share():
    assert by_ratio(torch.ones(3, 8), 0.5).sum(1).tolist() == [4, 4, 4]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: by_ratio(s, 1.5), "1.5"),
        (lambda s: by_ratio(s, -0.1, "matrix"), "from 0 to 1"),
        (lambda s: by_pattern(s, 2, 5), "divide by 5.*6 inputs"),
        (lambda s: by_pattern(s, 4, 3), "4:3"),
    ],
)
def test_mistakes_are_said(call, message):
    with pytest.raises(UserError, match=message):
        call(torch.ones(2, 6))
