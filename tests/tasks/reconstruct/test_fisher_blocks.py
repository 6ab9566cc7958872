"""The running inverse, its saliencies and its update against explicit numpy inverses."""

import numpy as np
import pytest
import torch

from tasks.reconstruct.fisher_blocks import FisherBlocks

PARAMETERS, BLOCK, SAMPLES, DAMPING = 14, 4, 9, 1e-3
SPANS = [slice(0, 4), slice(4, 8), slice(8, 12), slice(12, 14)]


@pytest.fixture
def gradients():
    random = np.random.default_rng(0)
    return torch.from_numpy(random.normal(size=(SAMPLES, PARAMETERS)) @ random.normal(size=(PARAMETERS, PARAMETERS)))


@pytest.fixture
def values():
    return torch.from_numpy(np.random.default_rng(1).normal(size=PARAMETERS))


@pytest.fixture(params=[1, 4, 9], ids=lambda size: f"{size}-at-once")
def fisher(request, gradients):
    blocks = FisherBlocks(PARAMETERS, BLOCK, SAMPLES, DAMPING)
    for part in gradients.split(request.param):
        blocks.add(part)
    return blocks


def matrix(gradients, span):
    part = gradients[:, span].numpy()
    return part.T @ part / SAMPLES + DAMPING * np.eye(part.shape[1])


def test_inverse_is_that_of_each_block(fisher, gradients):
    for block, span in enumerate(SPANS):
        size = span.stop - span.start
        found = fisher.inverse[block, :size, :size]
        np.testing.assert_allclose(found, np.linalg.inv(matrix(gradients, span)), rtol=1e-6)


def test_saliency_of_single_weights(fisher, gradients, values):
    diagonal = np.concatenate([np.linalg.inv(matrix(gradients, span)).diagonal() for span in SPANS])
    np.testing.assert_allclose(fisher.saliency(values), values.numpy() ** 2 / (2 * diagonal), rtol=1e-6)


def rise(gradients, values, span, gone):
    """Least 1/2 d^T F d with d = -w on `gone` (indices in the span), and where the kept weights then are."""
    fisher, w = matrix(gradients, span), values[span].numpy()
    kept = np.setdiff1d(np.arange(len(w)), gone)
    moved = np.zeros_like(w)
    moved[kept] = w[kept]
    if len(kept):
        moved[kept] += np.linalg.solve(fisher[np.ix_(kept, kept)], fisher[np.ix_(kept, gone)] @ w[gone])
    change = moved - w
    return 0.5 * change @ fisher @ change, moved


def test_saliency_of_groups_is_the_constrained_minimum(fisher, gradients, values):
    groups = torch.tensor([[0, 3], [6, 5], [8, 11], [13, 12]])
    expected = [
        rise(gradients, values, span, group.numpy() - span.start)[0] for span, group in zip(SPANS, groups, strict=True)
    ]
    np.testing.assert_allclose(fisher.group_saliency(values, groups), expected, rtol=1e-6)
    single = fisher.group_saliency(values, torch.arange(PARAMETERS)[:, None])
    np.testing.assert_allclose(single, fisher.saliency(values), rtol=1e-9)


def test_update_is_the_constrained_minimiser(fisher, gradients, values):
    mask = torch.tensor([1, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 1], dtype=torch.bool)
    found = fisher.update(values, mask)
    for span in SPANS:
        gone = (~mask[span]).nonzero()[:, 0].numpy()
        np.testing.assert_allclose(found[span], rise(gradients, values, span, gone)[1], rtol=1e-5, atol=1e-9)
    assert (found[~mask] == 0).all()


def test_units_by_the_gradients_of_their_gates():
    """One block of all gates of a layer, each 1: removing two alike units costs more than each alone says."""
    gate = torch.randn(50, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gradients = torch.hstack([gate, gate, torch.ones(50, 1)])
    fisher = FisherBlocks(3, 3, 50, damping=1e-4)
    fisher.add(gradients)
    ones = torch.ones(3)
    alone = fisher.saliency(ones)
    together = fisher.group_saliency(ones, torch.tensor([[0, 1]]))
    assert float(alone[0]) < 1e-3
    assert float(together[0]) > 100 * float(alone[:2].sum())


def test_a_block_larger_than_all_and_float32():
    fisher = FisherBlocks(3, 50, 1, damping=1.0, dtype=torch.float32)
    fisher.add(torch.tensor([[1.0, 2.0, 0.0]]))
    expected = np.linalg.inv(np.eye(3) + np.outer([1, 2, 0], [1, 2, 0]))
    np.testing.assert_allclose(fisher.inverse[0], expected, rtol=1e-6)


def test_mistakes_are_said(gradients, values):
    with pytest.raises(ValueError, match="damping"):
        FisherBlocks(3, 2, 1, damping=0)
    fisher = FisherBlocks(PARAMETERS, BLOCK, SAMPLES)
    fisher.add(gradients[:5])
    with pytest.raises(ValueError, match="5 of the 9"):
        fisher.saliency(values)
    with pytest.raises(ValueError, match="10 gradients"):
        fisher.add(gradients[:5])
    fisher.add(gradients[5:])
    with pytest.raises(ValueError, match="one block of 4"):
        fisher.group_saliency(values, torch.tensor([[3, 4]]))
