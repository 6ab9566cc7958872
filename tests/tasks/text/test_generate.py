from collections import Counter

import numpy as np
import pytest
import torch
from tiny_causal import CONTEXT, VOCABULARY, build, documents
from transformers import GenerationConfig

from tasks.core.errors import UserError
from tasks.text.generate import Gumbel, Sampling, _seed, continuations

LENGTHS = [3, 11, 1, 7, 7, 20]


def naive(model, prompt, new):
    """Greedy, the whole text again for each token."""
    ids = prompt.tolist()
    for _ in range(new):
        with torch.no_grad():
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_greedy_in_a_padded_batch_is_the_argmax_of_each_prompt_alone(kind):
    model, prompts = build(kind), documents(LENGTHS)
    found = continuations(model, prompts, Sampling(12), pad=0, eos=None, batch_size=4)
    assert [row.tolist() for row in found] == [naive(model, prompt, 12) for prompt in prompts]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_samples_are_the_same_in_any_batch_and_another_seed_gives_others(kind, top_p):
    model, prompts = build(kind), documents(LENGTHS)
    sampling = Sampling(12, temperature=0.9, top_p=top_p, seed=3)
    together = continuations(model, prompts, sampling, pad=0, eos=None, batch_size=6)
    torch.manual_seed(99)
    alone = [continuations(model, [p], sampling, pad=0, eos=None)[0] for p in reversed(prompts)][::-1]
    assert [row.tolist() for row in together] == [row.tolist() for row in alone]
    other = continuations(model, prompts, Sampling(12, 0.9, top_p, seed=4), pad=0, eos=None)
    assert [row.tolist() for row in together] != [row.tolist() for row in other]


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (1.3, 0.6)])
def test_draws_follow_the_softmax_of_the_scaled_logits_cut_at_top_p(temperature, top_p):
    model, (prompt,) = build("llama"), documents([5])
    draws = 3000
    counts = Counter()
    scores = _warped(model, prompt, temperature, top_p)
    noisy = Gumbel(range(draws))(None, scores.expand(draws, -1))
    counts = Counter(noisy.argmax(1).tolist())
    expected = scores[0].double().softmax(0).numpy()
    found = np.array([counts[i] for i in range(VOCABULARY)]) / draws
    assert set(np.flatnonzero(found)) <= set(np.flatnonzero(expected))
    assert np.abs(found - expected).max() < 4 * np.sqrt(0.25 / draws)


def _warped(model, prompt, temperature, top_p):
    """Logits after the prompt over temperature; those outside of the smallest set with probability top_p at -inf."""
    with torch.no_grad():
        logits = model(input_ids=torch.from_numpy(prompt)[None]).logits[0, -1] / temperature
    order = logits.argsort(descending=True)
    probability = logits.softmax(0)[order]
    outside = probability.cumsum(0) - probability >= top_p
    logits[order[outside]] = -float("inf")
    return logits[None]


def test_generate_draws_what_the_warped_logits_and_the_noise_say():
    model, prompts = build("gpt2"), documents([5, 9, 14])
    found = continuations(model, prompts, Sampling(1, 0.7, 0.8, seed=5), pad=0, eos=None)
    expected = [int(Gumbel([_seed(p, 5)])(None, _warped(model, p, 0.7, 0.8)).argmax()) for p in prompts]
    assert [int(row[0]) for row in found] == expected


def test_a_continuation_ends_before_eos_and_the_others_go_on():
    model, prompts = build("gpt2"), documents(LENGTHS)
    full = [row.tolist() for row in continuations(model, prompts, Sampling(12), pad=0, eos=None)]
    eos = full[0][4]
    found = continuations(model, prompts, Sampling(12), pad=eos, eos=eos, batch_size=6)
    assert [row.tolist() for row in found] == [row[: row.index(eos)] if eos in row else row for row in full]


def test_the_model_s_own_generation_config_does_not_count_and_stays():
    model, prompts = build("gpt2"), documents(LENGTHS)
    before = continuations(model, prompts, Sampling(8), pad=0, eos=None)
    own = GenerationConfig(do_sample=True, temperature=3.0, repetition_penalty=5.0, eos_token_id=list(range(25)))
    model.generation_config = own
    after = continuations(model, prompts, Sampling(8), pad=0, eos=None)
    assert [row.tolist() for row in before] == [row.tolist() for row in after]
    assert model.generation_config is own


@pytest.mark.parametrize(
    ("sampling", "length", "says"),
    [
        (Sampling(0), 3, "new_tokens"),
        (Sampling(1, temperature=-1.0), 3, "temperature"),
        (Sampling(1, temperature=float("nan")), 3, "temperature"),
        (Sampling(1, 1.0, top_p=0.0), 3, "top_p"),
        (Sampling(1), 0, "no token"),
        (Sampling(5), CONTEXT - 4, "takes 64 together"),
    ],
)
def test_what_cannot_be_generated_is_refused(sampling, length, says):
    with pytest.raises(UserError, match=says):
        continuations(build("gpt2"), documents([length]), sampling, pad=0, eos=None)
