"""Invariant 3: scores are what their formula says, and rank units as removing them does."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from tiny import TASK, build, rows

from tasks.families import FAMILIES, family_of
from tasks.modeling.shrink import mask
from tasks.score import CRITERIA
from tasks.score.criterion import score

BATCH = 8


def naive(model, split, name):
    """The three formulas in float64, unit by unit, with explicit slices of each tensor."""
    model = build(model.config.model_type).double()
    parameters = dict(model.named_parameters())
    groups = family_of(model.config.model_type).groups(model)
    batches = list(split.by_length(BATCH))
    found = {f"{g.kind}.{g.layer}": np.zeros(g.count) for g in groups}
    for chosen in batches:
        model.zero_grad()
        batch = {k: torch.from_numpy(v) for k, v in split.batch(chosen).items()}
        loss = torch.nn.functional.cross_entropy(model(**batch).logits, torch.from_numpy(split.labels[chosen]))
        loss.backward()
        for group in groups:
            for unit in range(group.count):
                weights, slopes = [], []
                for cut in group.cuts:
                    size = parameters[cut.tensor].shape[cut.axis] // cut.parts
                    for part in range(cut.parts):
                        for i in range(part * size + unit * cut.block, part * size + (unit + 1) * cut.block):
                            weights.append(parameters[cut.tensor].detach().select(cut.axis, i).flatten())
                            slope = parameters[cut.tensor].grad
                            slopes.append(
                                torch.zeros_like(weights[-1]) if slope is None else slope.select(cut.axis, i).flatten()
                            )
                w, g = torch.cat(weights), torch.cat(slopes)
                value = {
                    "magnitude": (w**2).sum().sqrt(),
                    "taylor": (w * g).sum().abs(),
                    "fisher": (0.5 * w**2 * g**2).sum(),
                }[name]
                found[f"{group.kind}.{group.layer}"][unit] += float(value) / len(batches)
    return found


@pytest.mark.parametrize("name", sorted(CRITERIA))
def test_equals_the_formula(model, split, name):
    expected = naive(model, split, name)
    found = score(model, CRITERIA[name], split, BATCH, TASK)
    assert found.keys() == expected.keys()
    for key, values in found.items():
        np.testing.assert_allclose(values.numpy(), expected[key], rtol=2e-3, atol=1e-8, err_msg=key)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_taylor_ranks_as_removal_does(family):
    """On one batch, |sum w dL/dw| over what a neuron feeds on and feeds against the loss without it."""
    model, split = build(family), rows(64, seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    found = score(model, CRITERIA["taylor"], split, len(split), TASK)

    def loss(candidate):
        batch = {k: torch.from_numpy(v) for k, v in split.batch(range(len(split))).items()}
        with torch.no_grad():
            return float(torch.nn.functional.cross_entropy(candidate(**batch).logits, torch.from_numpy(split.labels)))

    base = loss(model)
    everything = {}
    for group in family_of(family).groups(model):
        everything.setdefault(group.kind, []).append(list(range(group.count)))
    ranks = []
    for layer in range(3):
        changes = []
        for unit in range(48):
            kept = {kind: [list(units) for units in layers] for kind, layers in everything.items()}
            kept["neuron"][layer].remove(unit)
            changes.append(abs(loss(mask(model, kept)) - base))
        ranks.append(spearmanr(found[f"neuron.{layer}"].numpy(), changes).statistic)
    assert np.mean(ranks) > 0.7, ranks


def test_needs_no_data_for_magnitude(model):
    assert not CRITERIA["magnitude"].gradients
    before = [p.clone() for p in model.parameters()]
    score(model, CRITERIA["taylor"], rows(8), 4, TASK)
    assert all(
        p.grad is None and p.requires_grad and torch.equal(p, b)
        for p, b in zip(model.parameters(), before, strict=True)
    )
