"""Invariants 1 and 2: masked and shrunk agree, and a shrunk model comes back from disk as it was."""

import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import DECODERS, build, rows, uneven
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from tasks.core.errors import UserError
from tasks.families import FAMILIES, family_of
from tasks.families.anatomy import WHOLE
from tasks.modeling.checkpoint import load, save
from tasks.modeling.inference import forward, logits
from tasks.modeling.shrink import chosen, dense_counts, mask, shrink


def outputs(model, split):
    return logits(forward(model), split, 8)


def test_masked_and_shrunk_agree(model, split):
    kept = uneven(model)
    smaller = shrink(model, kept)
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())
    np.testing.assert_allclose(outputs(smaller, split), outputs(mask(model, kept), split), atol=1e-5)


def test_removal_changes_the_model(model, split):
    """The invariant above would hold of a prune that removed nothing."""
    assert np.abs(outputs(model, split) - outputs(shrink(model, uneven(model)), split)).max() > 1e-3


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), name=st.sampled_from(sorted(FAMILIES)))
def test_any_plan(data, name):
    model, split = build(name), rows(6)
    kept = {}
    for group in family_of(name).groups(model):
        if group.kind in {"layer", "width"}:
            continue
        if group.kind in WHOLE:
            units = data.draw(st.sampled_from([[0], [0], [0], []]))
        elif group.balance > 1:
            size = group.count // group.balance
            count = data.draw(st.integers(1, size))
            orders = [data.draw(st.permutations(range(size))) for _ in range(group.balance)]
            units = [part * size + i for part, order in enumerate(orders) for i in order[:count]]
        else:
            units = data.draw(st.sets(st.integers(0, group.count - 1), min_size=1))
        kept.setdefault(group.kind, []).append(sorted(units))
    np.testing.assert_allclose(outputs(shrink(model, kept), split), outputs(mask(model, kept), split), atol=1e-5)


def test_two_rounds_name_the_units_of_the_first_model(model, split):
    first = uneven(model)
    once = shrink(model, first)
    second, names = {}, {}
    for group, units in zip(groups_of(once), order(once), strict=True):
        second.setdefault(group.kind, []).append(units)
    for kind, layers in second.items():
        had = list(once.config.pruned["kept"][kind].values())
        names[kind] = [[units[i] for i in stay] for units, stay in zip(had, layers, strict=True)]
    twice = shrink(once, second)
    expected = {}
    for group, units in chosen(family_of(model.config.model_type), model, names):
        expected.setdefault(group.kind, []).append(units)
    recorded = {kind: list(layers.values()) for kind, layers in twice.config.pruned["kept"].items()}
    assert recorded == expected
    assert dense_counts(twice) == dense_counts(model)
    np.testing.assert_allclose(outputs(twice, split), outputs(mask(model, names), split), atol=1e-5)


def groups_of(model):
    return family_of(model.config.model_type).groups(model)


def order(model):
    """Of each group what is left when the last unit (of each part) goes, if another stays."""
    for group in groups_of(model):
        size = group.count // group.balance
        stay = size if group.kind in {*WHOLE, "width"} else max(1, size - 1)
        yield [part * size + i for part in range(group.balance) for i in range(stay)]


def test_comes_back_from_disk(model, split, tmp_path):
    smaller = shrink(model, uneven(model))
    save(smaller, tmp_path / "model")
    np.testing.assert_array_equal(outputs(load(tmp_path / "model"), split), outputs(smaller, split))


def test_loads_without_secateur(split, tmp_path):
    """In a process that cannot import this project, by the official call, every family with whole sublayers gone."""
    batch = split.batch(range(4))
    np.savez(tmp_path / "batch.npz", **batch)
    expected = {}
    for name in FAMILIES:
        model = build(name)
        smaller = shrink(shrink(model, uneven(model, whole=True)), {"layer": [[0], [], [0]]})
        save(smaller, tmp_path / "made" / name)
        expected[name] = forward(smaller)(batch)
    shutil.copytree(tmp_path / "made", tmp_path / "again")
    code = """
import sys, numpy, torch, pathlib
sys.path = [p for p in sys.path if "site-packages" in p or "lib" in p]
sys.meta_path = [f for f in sys.meta_path if "__editable__" not in getattr(f, "__module__", type(f).__module__)]
try:
    import tasks
except ImportError:
    pass
else:
    sys.exit("Secateur is importable here")
from transformers import AutoModelForSequenceClassification
batch = {k: torch.from_numpy(v) for k, v in numpy.load(sys.argv[2]).items()}
found = {}
for path in pathlib.Path(sys.argv[1]).iterdir():
    model = AutoModelForSequenceClassification.from_pretrained(path, trust_remote_code=True).eval()
    with torch.no_grad():
        found[path.name] = model(**batch).logits.numpy()
numpy.savez(sys.argv[3], **found)
"""
    command = [sys.executable, "-P", "-c", code, tmp_path / "again", tmp_path / "batch.npz", tmp_path / "logits.npz"]
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub"), "PATH": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "logits.npz")
    assert sorted(found) == sorted(FAMILIES)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("gone", [[1], [0, 2]])
def test_a_layer_less_is_the_model_without_it(model, split, gone):
    """Against the dense model, run with its layers taken out of its list."""
    smaller = shrink(model, {"layer": [[] if layer in gone else [0] for layer in range(3)]})
    family = family_of(model.config.model_type)
    path, _, name = family.layers.rpartition(".")
    layers = model.get_submodule(family.layers)
    setattr(model.get_submodule(path), name, torch.nn.ModuleList(x for i, x in enumerate(layers) if i not in gone))
    setattr(model.config, family.depth, 3 - len(gone))
    model.config.use_cache = False  # its layers still have their old numbers
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = [x for i, x in enumerate(model.config.layer_types) if i not in gone]
    np.testing.assert_allclose(outputs(smaller, split), outputs(model, split), atol=1e-5)


def test_sublayers_that_are_gone_add_nothing(model, split):
    family = family_of(model.config.model_type)
    for kind in family.sublayers:
        smaller = shrink(model, {kind: [[0], [], []]})
        groups = {(group.kind, group.layer) for group in family.groups(smaller)}
        assert (kind, 0) in groups
        assert not {(kind, 1), (kind, 2)} & groups
        np.testing.assert_allclose(
            outputs(smaller, split), outputs(mask(model, {kind: [[0], [], []]}), split), atol=1e-5
        )


def test_a_narrower_residual(model, split):
    """Against the dense model whose norms look at the kept entries alone and whose other entries are zero."""
    family = family_of(model.config.model_type)
    width = groups_of(model)[-1].count
    stay = sorted(torch.randperm(width, generator=torch.Generator().manual_seed(0)).tolist()[: width - 7])
    smaller = shrink(model, {"width": [stay]})
    reference = mask(model, {"width": [stay]})
    tensors = {cut.tensor for cut in groups_of(model)[-1].cuts}
    for name, module in reference.named_modules():
        if "norm" in type(module).__name__.lower() and f"{name}.weight" in tensors:
            module.forward = types.MethodType(_narrow_norm(stay, width, family.norms), module)
    np.testing.assert_allclose(outputs(smaller, split), outputs(reference, split), atol=1e-5)
    if family.norms != "layer":  # exactly what zeros give
        np.testing.assert_allclose(outputs(smaller, split), outputs(mask(model, {"width": [stay]}), split), atol=1e-5)


def test_width_goes_after_the_first_layer_is_gone():
    model = build("llama")
    once = shrink(shrink(model, {"layer": [[], [0], [0]]}), {"width": [list(range(30))]})
    again = shrink(once, {"width": [list(range(20))]})
    assert groups_of(once)[-1].count == 30
    assert groups_of(again)[-1].count == 20
    assert again.config.pruned["kept"]["width"] == {"0": list(range(20))}


def _narrow_norm(stay, width, norms):
    def forward(self, x):
        part = x[..., stay].double()
        centred = part - part.mean(-1, keepdim=True) if norms == "layer" else part
        eps = self.eps if hasattr(self, "eps") else self.variance_epsilon
        scale = (1 if norms == "rms1" else 0) + self.weight[stay].double()
        value = centred / (centred.square().sum(-1, keepdim=True) / width + eps).sqrt() * scale
        out = torch.zeros_like(x)
        out[..., stay] = (value + self.bias[stay] if norms == "layer" else value).float()
        return out

    return forward


@pytest.mark.parametrize("name", DECODERS)
def test_generation_with_a_cache(name):
    """Greedy text of an unevenly pruned model, with whole sublayers gone, is that of the masked one."""
    model = build(name, mapping=MODEL_FOR_CAUSAL_LM_MAPPING)
    kept = uneven(model, whole=True)
    kept["attention"][0] = []
    ids = torch.arange(5, 13).reshape(2, 4)
    texts = [
        m.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, eos_token_id=None
        )
        for m in (shrink(model, kept), mask(model, kept))
    ]
    assert texts[0].shape == (2, 12)
    assert torch.equal(*texts)


@pytest.mark.parametrize(("layer", "units", "said"), [(0, [], "last head"), (1, [9], "not 9 to 9")])
def test_refuses_impossible_plans(model, layer, units, said):
    kept = uneven(model)
    kept["head"][layer] = units
    with pytest.raises(ValueError, match=said):
        shrink(model, kept)


def test_refuses_weights_that_do_not_fit(tmp_path):
    model = build("bert")
    save(model, tmp_path)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"intermediate_size": 48', '"intermediate_size": 40'))
    with pytest.raises(UserError, match=r"do not fit|not of the sizes"):
        load(tmp_path)


def test_refuses_pickle_and_damage(tmp_path):
    save(build("bert"), tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    weights = tmp_path / "a" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="damaged"):
        load(tmp_path / "a")
    (tmp_path / "b" / "model.safetensors").unlink()
    torch.save({}, tmp_path / "b" / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model\.bin"):
        load(tmp_path / "b")


def test_refuses_a_model_without_a_head(tmp_path):
    save(build("bert"), tmp_path)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace("BertForSequenceClassification", "BertModel"))
    with pytest.raises(UserError, match=r"architectures names BertModel; it must be what one of AutoModelFor"):
        load(tmp_path)
