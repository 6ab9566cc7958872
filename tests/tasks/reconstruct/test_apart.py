"""Quick refitting against numpy on the dense model's own inputs, and against refitting layer by layer."""

import copy

import numpy as np
import pytest
import torch
from test_reconstruct import batches, everything
from tiny import build, rows, uneven

from tasks.families import FAMILIES, family_of
from tasks.modeling.inference import forward, logits
from tasks.modeling.matrices import matrices
from tasks.modeling.shrink import shrink
from tasks.reconstruct.apart import moments, refit
from tasks.reconstruct.layerwise import Stream
from tasks.reconstruct.units import reconstruct

KINDS = ("kv_group", "head", "neuron")


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_matrix_is_numpys_on_what_the_dense_model_gives_it(name):
    model, parts = build(name), batches(rows(60, seed=2), 60)
    family, kept = family_of(name), everything(model)
    groups = [group for group in family.groups(model) if group.kind == "neuron"]
    kept["neuron"] = [list(range(0, group.count, 2)) for group in groups]
    changed = copy.deepcopy(model)
    errors = refit(changed, kept, moments(model, KINDS, parts, 3e-6))
    assert errors.keys() == {group.cuts[-1].tensor for group in groups}
    stream, found = Stream(model, parts), {matrix.tensor: matrix for matrix in matrices(changed)}
    for group, units in zip(groups, kept["neuron"], strict=True):
        matrix = next(m for m in matrices(model) if m.tensor == group.cuts[-1].tensor)
        x = stream.advance(group.layer, stream.layers[group.layer], [matrix])[0][matrix.tensor].double()
        columns = matrix.columns(group.cuts[-1], units)
        ones = torch.ones(len(x), 1, dtype=torch.float64)
        given = torch.cat([x[:, columns], ones], 1) if matrix.bias is not None else x[:, columns]
        wanted = (x @ matrix.read().double().T).numpy()
        expected = given.numpy() @ np.linalg.lstsq(given.numpy(), wanted, rcond=None)[0]
        fitted, old = found[matrix.tensor], matrix.bias
        reached = x[:, columns] @ fitted.read()[:, columns].double().T + (0 if old is None else fitted.bias - old)
        np.testing.assert_allclose(reached.detach(), expected, atol=2e-3 * np.abs(wanted).max())


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "xlnet"])
def test_one_set_of_sums_serves_several_plans(name):
    """What is removed gives nothing, and the outputs are nearer to the dense model's than without refitting."""
    model, fresh = build(name), rows(60, seed=8)
    sums = moments(model, KINDS, batches(rows(200, seed=9), 50), 0.01)
    dense = logits(forward(model), fresh, 20)
    for plan in (uneven(model), everything(model) | {"neuron": [list(range(24))] * 3}):
        changed = copy.deepcopy(model)
        refit(changed, plan, sums)
        adapted, plain = (logits(forward(shrink(one, plan)), fresh, 20) for one in (changed, model))
        assert np.square(adapted - dense).mean() < np.square(plain - dense).mean()


def test_the_first_matrix_is_that_of_refitting_layer_by_layer():
    model, parts = build("llama"), batches(rows(60, seed=2))
    kept = everything(model)
    kept["neuron"][0] = list(range(0, 48, 2))
    quick, whole = copy.deepcopy(model), copy.deepcopy(model)
    (name,) = refit(quick, kept, moments(model, KINDS, parts, 0.01))
    reconstruct(whole, kept, parts, 0.01)
    first, second = (dict(one.named_parameters())[name] for one in (quick, whole))
    torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-3)
