"""The pull is the one that generalises: against held-out errors computed from the rows themselves."""

import pytest
import torch
from correlated import layer

from tasks.reconstruct.fit import TIMES, bearable
from tasks.reconstruct.gram import Gram
from tasks.reconstruct.least_squares import Normal, least_squares

KEPT = torch.tensor([0, 2, 3, 5, 7, 8, 10])


def summed(x, y=None):
    gram = Gram.empty(x.shape[1], None if y is None else y.shape[1])
    gram.add(x, y)
    return gram


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("wanted", [False, True])
def test_what_is_missed_of_other_tokens(biased, wanted):
    weight, x = layer(0)
    bias = torch.randn(5, dtype=torch.float64) if biased else None
    y = x @ weight.T + (0 if bias is None else bias)
    if wanted:
        y = y + torch.randn(200, 5, dtype=torch.float64)
    given, held = (summed(x[rows], y[rows] if wanted else None) for rows in (slice(0, 120), slice(120, 200)))
    fit = least_squares(weight, given, KEPT, 0.1, bias)
    error = x[120:, KEPT] @ fit.weight.T + (0 if fit.bias is None else fit.bias) - y[120:]
    assert Normal(weight, held, KEPT, bias).missed(fit.weight, fit.bias) == pytest.approx(
        float(error.square().sum()), rel=1e-8
    )


def test_both_halves_together_are_all_tokens():
    _, x = layer(1)
    y = torch.randn(200, 5, dtype=torch.float64)
    both, whole = summed(x[:70], y[:70]) + summed(x[70:], y[70:]), summed(x, y)
    for name in ("matrix", "total", "cross", "wanted"):
        torch.testing.assert_close(getattr(both, name), getattr(whole, name))
    assert both.tokens == whole.tokens
    assert both.energy == pytest.approx(whole.energy)


def test_few_tokens_are_not_followed_and_many_are():
    """Independent inputs with fewer tokens than inputs: nothing stands in for another, so the weights should stay."""
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(20, 40, dtype=torch.float64, generator=rng)
    kept = torch.arange(0, 40, 2)
    few, many = (torch.randn(count, 40, dtype=torch.float64, generator=rng) for count in (30, 4000))
    halves = summed(few[::2]), summed(few[1::2])
    chosen = bearable(weight, halves, kept, 0.01)
    assert chosen == 0.01 * max(TIMES)
    fresh = many @ weight.T

    def lost(damping):
        fit = least_squares(weight, halves[0] + halves[1], kept, damping).weight
        return float((many[:, kept] @ fit.T - fresh).square().sum())

    kept_as_it_was = float((many[:, kept] @ weight[:, kept].T - fresh).square().sum())
    assert lost(0.01) > 1.2 * kept_as_it_was
    assert lost(chosen) < 1.02 * kept_as_it_was
    correlated = many[:, :4] @ torch.randn(4, 40, dtype=torch.float64, generator=rng)
    assert bearable(weight, (summed(correlated[::2]), summed(correlated[1::2])), kept, 0.01) == 0.01


def test_without_a_second_half_the_damping_is_what_was_asked_for():
    weight, x = layer(2)
    assert bearable(weight, (summed(x), Gram.empty(12)), KEPT, 0.03) == 0.03
