"""Invariants 1 and 2: masked and shrunk agree, and a shrunk model comes back from disk as it was."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import build, rows, uneven

from tasks.core.errors import UserError
from tasks.families import FAMILIES, family_of
from tasks.modeling.checkpoint import load, save
from tasks.modeling.inference import forward, logits
from tasks.modeling.shrink import dense_counts, mask, shrink


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


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), name=st.sampled_from(sorted(FAMILIES)))
def test_any_plan(data, name):
    model, split = build(name), rows(6)
    kept = {}
    for group in family_of(name).groups(model):
        units = data.draw(st.sets(st.integers(0, group.count - 1), min_size=1))
        kept.setdefault(group.kind, []).append(sorted(units))
    np.testing.assert_allclose(outputs(shrink(model, kept), split), outputs(mask(model, kept), split), atol=1e-5)


def test_two_rounds_name_the_units_of_the_first_model(model, split):
    first = uneven(model)
    once = shrink(model, first)
    second = {kind: [list(range(max(1, len(units) - 1))) for units in layers] for kind, layers in first.items()}
    twice = shrink(once, second)
    names = {
        kind: [[units[i] for i in chosen] for units, chosen in zip(first[kind], layers, strict=True)]
        for kind, layers in second.items()
    }
    recorded = {kind: list(layers.values()) for kind, layers in twice.config.pruned["kept"].items()}
    assert recorded == names
    assert dense_counts(twice) == dense_counts(model)
    np.testing.assert_allclose(outputs(twice, split), outputs(mask(model, names), split), atol=1e-5)


def test_comes_back_from_disk(model, split, tmp_path):
    smaller = shrink(model, uneven(model))
    save(smaller, tmp_path / "model")
    np.testing.assert_array_equal(outputs(load(tmp_path / "model"), split), outputs(smaller, split))


def test_loads_without_secateur(model, split, tmp_path):
    """In a process that cannot import this project, by the official call."""
    smaller = shrink(model, uneven(model))
    save(smaller, tmp_path / "model")
    shutil.copytree(tmp_path / "model", tmp_path / "again")
    batch = split.batch(range(4))
    np.savez(tmp_path / "batch.npz", **batch)
    code = """
import sys, numpy, torch
sys.path = [p for p in sys.path if "site-packages" in p or "lib" in p]
sys.meta_path = [f for f in sys.meta_path if "__editable__" not in getattr(f, "__module__", type(f).__module__)]
try:
    import tasks
except ImportError:
    pass
else:
    sys.exit("Secateur is importable here")
from transformers import AutoModelForSequenceClassification
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
batch = {k: torch.from_numpy(v) for k, v in numpy.load(sys.argv[2]).items()}
with torch.no_grad():
    numpy.save(sys.argv[3], model(**batch).logits.numpy())
"""
    command = [sys.executable, "-P", "-c", code, tmp_path / "again", tmp_path / "batch.npz", tmp_path / "logits.npy"]
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub"), "PATH": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), forward(smaller)(batch), atol=1e-6)


@pytest.mark.parametrize(("layer", "units", "said"), [(0, [], "last head"), (1, [9], "0 to 3")])
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
