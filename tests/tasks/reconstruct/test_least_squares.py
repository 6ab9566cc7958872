"""The fit is numpy's least squares of the rows themselves."""

import numpy as np
import pytest
import torch
from correlated import gram_of, layer, lstsq

from tasks.core.errors import UserError
from tasks.reconstruct.least_squares import least_squares, output_error

KEPT = torch.tensor([7, 0, 3, 10])


def relative(exact, found):
    return float(((exact - found) ** 2).sum() / (exact**2).sum())


def test_without_a_bias():
    weight, x = layer(0)
    fit = least_squares(weight, gram_of(x), KEPT, damping=0)
    expected = lstsq(x[:, KEPT], x @ weight.T).T
    np.testing.assert_allclose(fit.weight, expected, rtol=1e-8)
    assert fit.bias is None
    assert fit.error == pytest.approx(relative(x @ weight.T, x[:, KEPT] @ expected.T), rel=1e-8)


def test_a_bias_is_a_constant_one_feature():
    weight, x = layer(1)
    bias = torch.randn(5, dtype=torch.float64)
    fit = least_squares(weight, gram_of(x), KEPT, damping=0, bias=bias)
    ones = torch.ones(len(x), 1)
    y = x @ weight.T + bias
    expected = lstsq(torch.hstack([x[:, KEPT], ones]), y)
    np.testing.assert_allclose(fit.weight, expected[:-1].T, rtol=1e-7)
    np.testing.assert_allclose(fit.bias, expected[-1], rtol=1e-7)
    centred = y - y.mean(0)
    reached = torch.hstack([x[:, KEPT], ones]) @ expected - y.mean(0)
    assert fit.error == pytest.approx(relative(centred, reached), rel=1e-7)


@pytest.mark.parametrize("biased", [False, True])
def test_any_outputs_that_are_wanted(biased):
    """As where the pruned model below has changed the inputs, and the residual beside."""
    weight, dense = layer(2)
    x = dense + 0.3 * torch.randn(200, 12, dtype=torch.float64)
    bias = torch.randn(5, dtype=torch.float64) if biased else None
    y = dense @ weight.T + torch.randn(200, 5, dtype=torch.float64)
    fit = least_squares(weight, gram_of(x, y), KEPT, damping=0, bias=bias)
    columns = torch.hstack([x[:, KEPT], torch.ones(200, int(biased))])
    expected = lstsq(columns, y)
    np.testing.assert_allclose(fit.weight, expected[:4].T, rtol=1e-7)
    mean = y.mean(0) if biased else 0
    assert fit.error == pytest.approx(relative(y - mean, columns @ expected - mean), rel=1e-7)
    if biased:
        np.testing.assert_allclose(fit.bias, expected[4], rtol=1e-7)


def test_damping_is_a_pull_to_the_present_weights():
    """As rows of sqrt(r) I that ask for the present weight."""
    weight, dense = layer(3)
    x = dense + 0.3 * torch.randn(200, 12, dtype=torch.float64)
    fit = least_squares(weight, gram_of(x, dense @ weight.T), KEPT, damping=0.05)
    root = (0.05 * (x.T @ x).diagonal().mean()).sqrt()
    rows = torch.vstack([x[:, KEPT], root * torch.eye(4, dtype=torch.float64)])
    asked = torch.vstack([dense @ weight.T, root * weight[:, KEPT].T])
    np.testing.assert_allclose(fit.weight, lstsq(rows, asked).T, rtol=1e-8)


def test_all_kept_changes_nothing():
    weight, x = layer(4)
    bias = torch.ones(5, dtype=torch.float64)
    fit = least_squares(weight, gram_of(x), torch.arange(12), bias=bias)
    np.testing.assert_allclose(fit.weight, weight, rtol=1e-8)
    np.testing.assert_allclose(fit.bias, bias, rtol=1e-8)
    assert fit.error < 1e-12


def test_types_are_those_given():
    weight, x = layer(5)
    fit = least_squares(weight.float(), gram_of(x.float()), KEPT, bias=torch.zeros(5, dtype=torch.bfloat16))
    assert (fit.weight.dtype, fit.bias.dtype) == (torch.float32, torch.bfloat16)


def test_too_few_rows_need_damping():
    weight, x = layer(6, tokens=3)
    with pytest.raises(UserError, match="more calibration rows"):
        least_squares(weight, gram_of(x), KEPT, damping=0)
    assert least_squares(weight, gram_of(x), KEPT).weight.isfinite().all()


def test_error_of_any_weights():
    weight, x = layer(8)
    other = torch.randn(5, 4, dtype=torch.float64)
    exact = relative(x @ weight.T, x[:, KEPT] @ other.T)
    assert output_error(weight, other, gram_of(x), KEPT) == pytest.approx(exact)
    assert output_error(weight, other, gram_of(x, x @ weight.T), KEPT) == pytest.approx(exact)
    assert output_error(torch.zeros(5, 12), torch.zeros(5, 12), gram_of(x)) == 0
