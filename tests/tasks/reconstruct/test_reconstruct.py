"""Reconstruction of real layers: against lstsq on collected activations, and for what it promises."""

import copy

import numpy as np
import pytest
import torch
from tiny import TASK, build, rows, uneven

from tasks.families import FAMILIES, family_of
from tasks.modeling.inference import forward, logits
from tasks.modeling.matrices import matrices, watching
from tasks.modeling.shrink import mask, shrink
from tasks.reconstruct.layerwise import Stream
from tasks.reconstruct.units import reconstruct


def batches(split, size=8):
    return [{k: torch.from_numpy(v) for k, v in split.batch(r).items()} for r in split.by_length(size)]


def everything(model):
    kept = {}
    for group in family_of(model.config.model_type).groups(model):
        kept.setdefault(group.kind, []).append(list(range(group.count)))
    return kept


def test_a_stream_sees_what_the_model_sees(model, split):
    """Inputs of every matrix, layer by layer, against hooks on a whole forward pass."""
    expected, parts = {}, batches(split)
    for batch in parts:
        seen = {}
        watches = [(m, lambda x, m=m, seen=seen: seen.update({m.tensor: x})) for m in matrices(model)]
        with torch.no_grad(), watching(watches):
            model(**batch)
        for name, x in seen.items():
            expected.setdefault(name, []).append(x)
    stream = Stream(model, parts)
    by_layer = {}
    for matrix in matrices(model):
        by_layer.setdefault(matrix.layer, []).append(matrix)
    for number, layer in enumerate(stream.layers):
        for index, seen in enumerate(stream.inputs(number, layer, by_layer[number])):
            for name, x in seen.items():
                whole, live = expected[name][index], stream.masks[index]
                whole = whole[live] if len(whole) == len(live) else whole
                torch.testing.assert_close(x, whole, atol=1e-5, rtol=1e-4)
        stream.advance(number, layer)


def test_matrices_are_what_they_multiply(model, split):
    """Each matrix times what flows into it is what the model computes: seen on the outputs of the linear modules."""
    batch = batches(split, 4)[0]
    found = {m.tensor: m for m in matrices(model)}
    inputs, outputs = {}, {}
    hooks = []
    for name, module in model.named_modules():
        if f"{name}.weight" in found:
            tensor = f"{name}.weight"
            hooks.append(module.register_forward_hook(lambda _, a, out, t=tensor: outputs.update({t: out})))
    with torch.no_grad(), watching([(m, lambda x, m=m: inputs.update({m.tensor: x})) for m in found.values()]):
        model(**batch)
    for hook in hooks:
        hook.remove()
    assert outputs
    for name, out in outputs.items():
        bias = 0 if found[name].bias is None else found[name].bias
        torch.testing.assert_close(inputs[name] @ found[name].read().T + bias, out.flatten(0, -2), atol=1e-4, rtol=1e-4)
    for matrix in found.values():
        before = matrix.parameter.clone()
        matrix.write(matrix.read())
        assert torch.equal(matrix.parameter, before)


def test_removed_units_give_nothing(model, split):
    """The reconstructed model and its shrunk form agree."""
    kept = uneven(model, whole=True)
    changed = copy.deepcopy(model)
    same, errors = reconstruct(changed, kept, batches(split))
    assert same == {kind: units for kind, units in same.items() if kind in kept}
    assert errors
    assert all(0 <= error < 1 for error in errors.values())
    split = rows(10, seed=5)
    first = logits(forward(shrink(changed, kept)), split, 8)
    np.testing.assert_allclose(first, logits(forward(mask(changed, kept)), split, 8), atol=1e-4)
    assert np.abs(first - logits(forward(shrink(model, kept)), split, 8)).max() > 1e-3


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_first_matrix_is_numpys(name):
    """The first layer's matrix that lost units, against numpy.linalg.lstsq with a constant feature."""
    model, split = build(name), rows(60, seed=2)
    family = family_of(name)
    group = next(g for g in family.groups(model) if g.kind == "neuron")
    kept = everything(model)
    kept["neuron"][0] = list(range(0, group.count, 2))
    matrix = next(m for m in matrices(model) if m.tensor == group.cuts[-1].tensor)
    weight, parts = matrix.read().double(), batches(split, 60)
    stream = Stream(model, parts)
    x = next(stream.inputs(0, stream.layers[0], [matrix]))[matrix.tensor].double()
    columns = matrix.columns(group.cuts[-1], kept["neuron"][0])
    ones = torch.ones(len(x), 1, dtype=torch.float64)
    given = torch.cat([x[:, columns], ones], 1) if matrix.bias is not None else x[:, columns]
    expected = np.linalg.lstsq(given.numpy(), (x @ weight.T).numpy(), rcond=None)[0].T
    reconstruct(model, kept, parts, damping=1e-9)
    np.testing.assert_allclose(matrix.read()[:, columns], expected[:, : len(columns)], atol=1e-3)


@pytest.mark.parametrize("name", ["bert", "xlnet", "gpt2", "llama"])
def test_tokens_count_by_how_steep_the_loss_is_in_them(name):
    """Against autograd on whole passes; a row's live tokens count one in the mean."""
    model, split = build(name), rows(6)
    parts, numbers = batches(split, 3), list(split.by_length(3))
    stream = Stream(model, parts, lambda out, i: TASK.loss(out, split, numbers[i]))
    family = family_of(name)
    layer = model.get_submodule(family.layers)[1]
    for i, batch in enumerate(parts):
        seen = []
        hook = layer.register_forward_hook(
            lambda _, __, out, seen=seen: seen.append(out[0] if isinstance(out, tuple) else out)
        )
        loss = TASK.loss(model(**batch), split, numbers[i]).sum()
        hook.remove()
        steep = torch.autograd.grad(loss, seen[0])[0].square().sum(-1)
        live = batch["attention_mask"].bool()
        steep = (steep.T if family.time_major else steep) * live
        share = steep * live.sum(1, keepdim=True) / steep.sum(1, keepdim=True)
        expected = 0.9 * share + 0.1
        expected, live = (expected.T, live.T) if family.time_major else (expected, live)
        torch.testing.assert_close(stream.weights[i][1], expected[live], atol=1e-4, rtol=1e-3)
    assert all(p.grad is None for p in model.parameters())


def test_half_of_the_neurons_cost_less_with_reconstruction(model, split):
    """Output error against the dense model, on rows that were not used for calibration."""
    kept = everything(model)
    order = torch.randperm(48, generator=torch.Generator().manual_seed(0)).tolist()
    kept["neuron"] = [sorted(order[:24])] * 3
    fresh, calibration = rows(60, seed=8), rows(200, seed=9)
    dense = logits(forward(model), fresh, 20)
    plain = logits(forward(shrink(model, kept)), fresh, 20)
    reconstruct(model, kept, batches(calibration, 50))
    adapted = logits(forward(shrink(model, kept)), fresh, 20)
    assert np.square(adapted - dense).mean() < np.square(plain - dense).mean()
