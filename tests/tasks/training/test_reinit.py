"""Re-initialisation draws what was not kept and nothing else; rewinding restores what was kept."""

import numpy as np
import pytest
import torch
from course import prune_randomly, weights
from tiny import build, uneven

from tasks.core.errors import UserError
from tasks.families import family_of
from tasks.modeling.shrink import mask as masked_model
from tasks.training.reinit import kept_entries, reinitialize, rewind


def all_groups(model):
    return family_of(model.config.model_type).groups(model)


@pytest.fixture(params=["bert", "distilbert", "xlnet", "gpt2", "llama"])
def source(request):
    return build(request.param)


def test_entries_of_units_are_those_that_masking_zeroes(source):
    kept = uneven(source)
    masks = kept_entries(all_groups(source), dict(source.named_parameters()), kept)
    zeroed = weights(masked_model(source, kept))
    assert masks.keys() == {cut.tensor for group in all_groups(source) for cut in group.cuts}
    for name, mask in masks.items():
        torch.testing.assert_close(mask, zeroed[name] != 0)
    heads = kept_entries(all_groups(source), dict(source.named_parameters()), {"head": kept["head"]})
    assert heads.keys() < masks.keys()


@pytest.mark.parametrize("how", ["random", "adaptive"])
def test_draws_what_was_not_kept(source, how):
    kept = kept_entries(all_groups(source), dict(source.named_parameters()), uneven(source))
    before = weights(source)
    again = reinitialize(source, kept, how, seed=0)
    after = weights(again)
    for name, values in before.items():
        torch.testing.assert_close(weights(source)[name], values, rtol=0, atol=0)
        mask = kept.get(name, torch.ones_like(values, dtype=torch.bool))
        torch.testing.assert_close(after[name][mask], values[mask], rtol=0, atol=0)
        new = after[name][~mask]
        if len(new) > 300:
            expected = source.config.initializer_range if how == "random" else np.std(values[mask].numpy(), ddof=1)
            assert new.std().item() == pytest.approx(expected, rel=0.15)
            assert abs(new.mean().item()) < 0.15 * expected
            assert len(new.unique()) > 0.9 * len(new)
        elif values.ndim == 1 and how == "random":
            assert (new == 0).all()


def test_is_seeded_by_tensor():
    model = build("bert")
    everything = prune_randomly(model, 0.5)
    name = next(iter(everything))
    one, two = reinitialize(model, everything, "random", 7), reinitialize(model, {name: everything[name]}, "random", 7)
    torch.testing.assert_close(weights(one)[name], weights(two)[name], rtol=0, atol=0)
    other = reinitialize(model, everything, "random", 8)
    assert (weights(other)[name] != weights(one)[name]).any()
    twice = reinitialize(model, everything, "random", 7, factor=2.0)
    gone = ~everything[name]
    torch.testing.assert_close(weights(twice)[name][gone], 2 * weights(one)[name][gone])


def test_a_tensor_that_kept_nothing_starts_at_random():
    model = build("bert")
    name = "bert.encoder.layer.0.output.dense.weight"
    nothing = {name: torch.zeros(32, 48, dtype=torch.bool)}
    found = [weights(reinitialize(model, nothing, how, 0))[name] for how in ("random", "adaptive")]
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_rewinds_what_was_kept(source):
    early = weights(source)
    later = build(source.config.model_type, seed=1)
    kept = prune_randomly(later, 0.3)
    after = weights(rewind(later, early, kept))
    assert any((weights(later)[name] != early[name]).any() for name in kept)
    for name, values in early.items():
        expected = torch.where(kept[name], values, 0.0) if name in kept else values
        torch.testing.assert_close(after[name], expected, rtol=0, atol=0)


def test_refuses_what_does_not_fit():
    model = build("bert")
    with pytest.raises(UserError, match=r"mask of nothing\.weight has shape \[2\], the model no such tensor"):
        reinitialize(model, {"nothing.weight": torch.ones(2)}, "random", 0)
    early = weights(model)
    early["classifier.weight"] = torch.zeros(2, 32)
    with pytest.raises(UserError, match=r"classifier\.weight has shape \[3, 32\], in the early checkpoint \[2, 32\]"):
        rewind(model, early, {})
