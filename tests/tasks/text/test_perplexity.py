import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_causal import CONTEXT, build, documents

from tasks.core.errors import UserError
from tasks.text.perplexity import likelihood, perplexity, windows


def naive(model, ids, max_length, stride):
    """Losses of a document's tokens, one forward pass for each token, in float64."""
    model.double()
    losses = []
    for position in range(1, len(ids)):
        # The first window that reaches the position begins at a multiple of the stride.
        start = 0
        while start + max_length <= position:
            start += stride
        with torch.no_grad():
            logits = model(input_ids=torch.from_numpy(ids[start:position])[None]).logits[0, -1].numpy()
        shifted = logits - logits.max()
        losses.append(math.log(np.exp(shifted).sum()) - shifted[ids[position]])
    model.float()
    return losses


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize(("max_length", "stride"), [(16, 5), (16, 15), (8, 1), (64, 32)])
def test_each_token_is_scored_once_in_the_first_window_that_reaches_it(kind, max_length, stride):
    model, texts = build(kind), documents([40, 17, 2, 1, 40, 9])
    found = likelihood(model, texts, max_length=max_length, stride=stride, batch_size=3)
    losses = [naive(model, ids, max_length, stride) for ids in texts]
    assert found.tokens.tolist() == [39, 16, 1, 0, 39, 8]
    np.testing.assert_allclose(found.nll, [sum(row) for row in losses], rtol=1e-4)
    flat = [loss for row in losses for loss in row]
    assert found.perplexity == pytest.approx(math.exp(sum(flat) / len(flat)), rel=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("stride", [1, 7, 59])
def test_a_window_over_everything_gives_the_model_s_own_loss_whatever_the_stride(kind, stride):
    model, (ids,) = build(kind), documents([CONTEXT])
    tensor = torch.from_numpy(ids)[None]
    with torch.no_grad():
        exact = model(input_ids=tensor, labels=tensor).loss.exp().item()
    assert likelihood(model, [ids], max_length=CONTEXT, stride=stride).perplexity == pytest.approx(exact, rel=1e-5)


def test_a_prefix_lets_the_first_token_count():
    model, (ids,) = build("llama"), documents([20])
    with_prefix = likelihood(model, [ids], max_length=32, stride=8, prefix=0)
    joined = likelihood(model, [np.concatenate([[0], ids])], max_length=32, stride=8)
    assert with_prefix.tokens.tolist() == [20]
    assert with_prefix.nll.tolist() == joined.nll.tolist()


def test_batches_change_nothing():
    model, texts = build("llama"), documents([30, 12, 30, 45, 12])
    one = likelihood(model, texts, max_length=16, stride=4)
    four = likelihood(model, texts, max_length=16, stride=4, batch_size=4)
    np.testing.assert_allclose(one.nll, four.nll, rtol=1e-6)


@given(st.integers(0, 200), st.integers(2, 40), st.data())
def test_windows_score_every_token_but_the_first_once_with_the_context_promised(length, max_length, data):
    stride = data.draw(st.integers(1, max_length - 1))
    found = windows(length, max_length, stride)
    scored = [position for w in found for position in range(w.first, w.end)]
    assert scored == list(range(1, length))
    for w in found:
        assert w.end - w.start <= max_length
        assert w.first - w.start >= min(w.first, max_length - stride)


def test_resamples_are_weighted_by_tokens():
    nll, tokens = np.array([2.0, 30.0]), np.array([1, 10])
    times = np.array([[1, 1], [2, 0], [0, 2]])
    expected = [math.exp(32 / 11), math.exp(2.0), math.exp(3.0)]
    np.testing.assert_allclose(perplexity(times @ nll, times @ tokens), expected)


@pytest.mark.parametrize(
    ("lengths", "max_length", "stride", "says"),
    [
        ([9], 8, 8, "stride"),
        ([9], 8, 0, "stride"),
        ([9], 1, 1, "stride"),
        ([9], CONTEXT + 1, 8, "at most 64"),
        ([1, 0], 8, 4, "token to score"),
    ],
)
def test_what_cannot_be_scored_is_refused(lengths, max_length, stride, says):
    with pytest.raises(UserError, match=says):
        likelihood(build("gpt2"), documents(lengths), max_length=max_length, stride=stride)
