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
from tasks.reconstruct.steepness import steepness
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
    reconstruct(model, kept, parts, damping=3e-6)
    np.testing.assert_allclose(matrix.read()[:, columns], expected[:, : len(columns)], atol=1e-3)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_matrix_above_brings_back_the_stream(name):
    """The next FFN after neurons went, against numpy on the residual stream as hooks see it in both whole models."""
    model, split = build(name), rows(60, seed=2)
    family = family_of(name)
    part = family.sublayers["ffn"]
    kept = everything(model)
    kept["neuron"][0] = kept["neuron"][0][::2]
    parts = batches(split, 60)
    changed = copy.deepcopy(model)
    reconstruct(changed, kept, parts, damping=3e-6)
    found = [m for m in matrices(changed) if m.layer == 1 and m.tensor.endswith(f".{part.output}.weight")]
    seen = {}
    for key, one in (("dense", model), ("pruned", changed)):
        layer = one.get_submodule(family.layers)[1]
        hooks = [layer.get_submodule(part.output).register_forward_hook(_note(seen, key, "x", "y"))]
        if part.total:
            hooks.append(layer.get_submodule(part.total).register_forward_hook(_note(seen, key, "total", None)))
        elif part.total == "":
            hooks.append(layer.register_forward_hook(_note(seen, key, None, "total")))
        with torch.no_grad():
            one(**parts[0])
        for hook in hooks:
            hook.remove()
    live = parts[0]["attention_mask"].bool()
    live = live.T if family.time_major else live
    take = {key: v.reshape(-1, v.shape[-1])[live.flatten()].double() for key, v in seen.items()}
    wanted = take["dense", "y"]
    if part.total is not None:  # what is added to the residual that the pruned model has there
        wanted = take["dense", "total"] - (take["pruned", "total"] - take["pruned", "y"])
    x = take["pruned", "x"]
    given = torch.cat([x, torch.ones(len(x), 1).double()], 1) if found[0].bias is not None else x
    expected = np.linalg.lstsq(given.numpy(), wanted.numpy(), rcond=None)[0]
    reached = float((given @ torch.from_numpy(expected) - wanted).square().sum())
    assert float((take["pruned", "y"] - wanted).square().sum()) == pytest.approx(reached, rel=1e-3)


def _note(seen, key, before, after):
    def hook(_, args, out):
        if before:
            seen[key, before] = args[0]
        if after:
            seen[key, after] = out[0] if isinstance(out, tuple) else out

    return hook


@pytest.mark.parametrize("name", ["bert", "xlnet", "gpt2", "llama"])
def test_the_steepness_is_the_root_of_the_mean_of_gradients_outer_products(name):
    model, split = build(name), rows(6)
    parts, numbers = batches(split, 3), list(split.by_length(3))
    found = [m for m in matrices(model) if m.tensor.endswith(family_of(name).sublayers["ffn"].output + ".weight")]
    roots = steepness(model, parts, lambda out, i: TASK.loss(out, split, numbers[i]), found)
    assert roots.keys() == {m.tensor for m in found}
    total = 0
    for i, batch in enumerate(parts):
        outs = []
        module = model.get_submodule(found[1].tensor.removesuffix(".weight"))
        hook = module.register_forward_hook(lambda _, __, out, outs=outs: outs.append(out))
        loss = TASK.loss(model(**batch), split, numbers[i]).sum()
        hook.remove()
        gradient = torch.autograd.grad(loss, outs[0])[0].flatten(0, -2).double().numpy()
        total = total + sum(np.outer(g, g) for g in gradient)
    expected = 0.99 * total / np.diag(total).mean() + 0.01 * np.eye(len(total))
    root = roots[found[1].tensor].numpy()
    np.testing.assert_allclose(root @ root, expected, atol=1e-5)
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
