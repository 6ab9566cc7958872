"""Invariant 4: a ratio removes that share of the counted units, never a layer's last one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tiny import build

from tasks.core.files import read_json
from tasks.modeling.checkpoint import load, save
from tasks.modeling.shrink import dense_counts
from tasks.prune import prune
from tasks.prune.plan import choose, targets
from tasks.recipe.schema import Prune

LAYERS = st.lists(
    st.lists(st.floats(0, 1, width=32), min_size=4, max_size=40), min_size=1, max_size=6
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(LAYERS, st.floats(0, 0.95), st.sampled_from([1, 4, 8]), st.sampled_from(["global", "layer"]), st.booleans())
def test_keeps_what_it_says(layers, ratio, align, scope, normalize):
    scores = [torch.tensor(layer) for layer in layers]
    total = sum(map(len, layers))
    keep = round(total * (1 - ratio))
    kept = choose(scores, keep, align, scope, normalize).kept
    counts = [len(units) for units in kept]
    assert all(1 <= count <= len(layer) for count, layer in zip(counts, layers, strict=True))
    least = sum(min(align, len(layer)) for layer in layers)
    slack = align / 2 if scope == "global" else len(layers) * (align / 2 + 0.5)
    assert sum(counts) <= max(keep, least) + slack
    assert sum(counts) >= min(keep, total) - slack - (align if scope == "global" else 0)
    for units, layer in zip(kept, scores, strict=True):
        left = set(range(len(layer))) - set(units)
        assert not left or layer[list(left)].max() <= layer[units].min()


def test_global_takes_the_best_of_all_layers():
    scores = [torch.tensor([5.0, 4.0, 1.0]), torch.tensor([0.3, 0.2, 0.1]), torch.tensor([3.0, 2.0, 0.0])]
    choice = choose(scores, 6, 1, "global", normalize=False)
    assert choice.kept == [[0, 1, 2], [0], [0, 1]]
    assert choice.threshold == 1.0
    assert choose(scores, 6, 1, "layer", normalize=False).kept == [[0, 1], [0, 1], [0, 1]]


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_rounds_reach_their_share_of_the_dense_model(tmp_path, scope):
    settings_ = Prune(
        kinds=("head", "neuron"), rounds=(0.25, {"head": 0.5, "neuron": 0.5}), scope=scope, normalize=False, align=4
    )
    model = build("bert")
    save(model, tmp_path / "m0")
    for number, share in enumerate((0.25, 0.5)):
        start = load(tmp_path / f"m{number}")
        groups = {f"{k}.{i}": n for k, counts in dense_counts(model).items() for i, n in enumerate(counts)}
        kept = getattr(start.config, "pruned", {"kept": {}})["kept"]
        sizes = {
            key: len(kept.get(key.split(".")[0], {}).get(key.split(".")[1], range(n))) for key, n in groups.items()
        }
        generator = torch.Generator().manual_seed(number)
        (tmp_path / f"s{number}").mkdir()
        save_file(
            {key: torch.rand(size, generator=generator) for key, size in sizes.items()},
            tmp_path / f"s{number}" / "scores.safetensors",
        )
        (tmp_path / f"m{number + 1}").mkdir()
        prune(tmp_path / f"m{number}", tmp_path / f"s{number}", number, settings_, tmp_path / f"m{number + 1}")
        plan = read_json(tmp_path / f"m{number + 1}" / "plan.json")
        for kind, unit in (("head", 1), ("neuron", 4)):
            left = sum(len(group["kept"]) for group in plan["groups"] if group["kind"] == kind)
            dense = sum(group["before"] for group in plan["groups"] if group["kind"] == kind)
            assert abs(left - dense * (1 - share)) <= unit * (1 if scope == "global" else 3)
    assert set(plan["groups"][0]["removed"]).isdisjoint(plan["groups"][0]["kept"])


def test_targets_count_the_dense_model():
    assert targets({"head": [4, 4], "neuron": [10, 10]}, {"head": 0.25}) == {"head": 6, "neuron": 20}
