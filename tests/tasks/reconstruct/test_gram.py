"""Streamed sums equal those of all rows at once; factors are those of the inverse."""

import numpy as np
import pytest
import torch
from correlated import layer

from tasks.core.errors import UserError
from tasks.reconstruct.gram import ROWS, Gram, damped, factor, inverse_root


def test_batches_add_up_to_the_whole():
    x, y = torch.randn(3, 7, 5, dtype=torch.float64), torch.randn(3, 7, 4, dtype=torch.float64)
    gram = Gram.empty(5, 4)
    for batch in range(3):
        gram.add(x[batch : batch + 1], y[batch : batch + 1])
    inputs, wanted = x.reshape(21, 5).numpy().astype(float), y.reshape(21, 4).numpy().astype(float)
    np.testing.assert_allclose(gram.matrix, inputs.T @ inputs, rtol=1e-12)
    np.testing.assert_allclose(gram.cross, wanted.T @ inputs, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(gram.wanted, wanted.sum(0), rtol=1e-12, atol=1e-13)
    assert gram.energy == pytest.approx(np.square(wanted).sum())
    assert gram.tokens == 21


def test_float32_batches_are_summed_in_float64():
    x = torch.rand(50 * ROWS + 3, 2, generator=torch.Generator().manual_seed(0)) + 100
    gram = Gram.empty(2)
    gram.add(x)
    exact = x.numpy().astype(float)
    np.testing.assert_allclose(gram.matrix, exact.T @ exact, rtol=2e-7)


def test_centred_sums_are_those_of_centred_inputs():
    _, x = layer(0)
    y = x[:, :3] + 1
    gram = Gram.empty(12, 3)
    gram.add(x, y)
    centred = gram.centred()
    inputs, wanted = (x - x.mean(0)).numpy(), (y - y.mean(0)).numpy()
    np.testing.assert_allclose(centred.matrix, inputs.T @ inputs, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(centred.cross, wanted.T @ inputs, rtol=1e-9, atol=1e-9)
    assert centred.energy == pytest.approx(np.square(wanted).sum())


def test_inputs_and_outputs_must_belong_together():
    with pytest.raises(ValueError, match="without wanted outputs"):
        Gram.empty(3).add(torch.ones(2, 3), torch.ones(2, 3))
    with pytest.raises(ValueError, match="for wanted outputs"):
        Gram.empty(3, 3).add(torch.ones(2, 3))
    with pytest.raises(ValueError, match="2 tokens against outputs of 4"):
        Gram.empty(3, 3).add(torch.ones(2, 3), torch.ones(4, 3))
    with pytest.raises(ValueError, match="No tokens"):
        Gram.empty(3).centred()


def test_root_is_the_upper_factor_of_the_inverse():
    _, x = layer(1)
    matrix = x.T @ x
    root = inverse_root(matrix)
    np.testing.assert_allclose(root, np.linalg.cholesky(np.linalg.inv(matrix)).T, rtol=1e-8, atol=1e-12)


def test_damping_is_a_share_of_the_mean_diagonal():
    np.testing.assert_allclose(damped(torch.tensor([[1.0, 2], [2, 5]]), 0.1), [[1.3, 2], [2, 5.3]])


@pytest.mark.parametrize("matrix", [torch.zeros(2, 2), torch.ones(2, 2), torch.full((2, 2), torch.nan)])
def test_what_is_not_determined_is_said(matrix):
    with pytest.raises(UserError, match="damping above 0"):
        factor(matrix.double())
