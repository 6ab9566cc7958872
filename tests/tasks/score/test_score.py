"""Invariant 3: scores are what their formula says, and rank units as removing them does."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import spearmanr
from tiny import TASK, build, rows

from tasks.families import FAMILIES, family_of
from tasks.families.anatomy import WHOLE
from tasks.modeling.checkpoint import load, save
from tasks.modeling.matrices import matrices, watching
from tasks.modeling.shrink import mask
from tasks.recipe.load import resolve
from tasks.score import CRITERIA, score_units
from tasks.score.criterion import Sample

BATCH = 8
FORMULAS = {
    "magnitude": lambda w, g: (w**2).sum(),
    "magnitude_l1": lambda w, g: w.abs().sum(),
    "gradient": lambda w, g: g.abs().sum(),
    "taylor": lambda w, g: (w * g).sum().abs(),
    "taylor_absolute": lambda w, g: (w * g).abs().sum(),
    "fisher": lambda w, g: (0.5 * w**2 * g**2).sum(),
}


def score(model, name, split, size=BATCH, **options):
    return CRITERIA[name](Sample(model, split, size, TASK, **options))


def entries(tensor, cut, unit):
    """Explicit slices of one unit."""
    size = tensor.shape[cut.axis] // cut.parts
    for part in range(cut.parts):
        for i in range(part * size + unit * cut.block, part * size + (unit + 1) * cut.block):
            yield tensor.select(cut.axis, i).flatten()


def naive(model, split, names):
    """The formulas in float64, unit by unit."""
    model = build(model.config.model_type).double()
    parameters = dict(model.named_parameters())
    groups = family_of(model.config.model_type).groups(model)
    batches = list(split.by_length(BATCH))
    found = {name: {g.name: np.zeros(g.count) for g in groups} for name in names}
    for chosen in batches:
        model.zero_grad()
        batch = {k: torch.from_numpy(v) for k, v in split.batch(chosen).items()}
        loss = torch.nn.functional.cross_entropy(model(**batch).logits, torch.from_numpy(split.labels[chosen]))
        loss.backward()
        for group in groups:
            for unit in range(group.count):
                weights, slopes = [], []
                for cut in group.cuts:
                    weight = parameters[cut.tensor]
                    slope = torch.zeros_like(weight) if weight.grad is None else weight.grad
                    weights += entries(weight.detach(), cut, unit)
                    slopes += entries(slope, cut, unit)
                w, g = torch.cat(weights), torch.cat(slopes)
                for name in names:
                    found[name][group.name][unit] += float(FORMULAS[name](w, g)) / len(batches)
    return found


def test_equals_the_formula(model, split):
    expected = naive(model, split, FORMULAS)
    for name in FORMULAS:
        found = score(model, name, split)
        assert found.keys() == expected[name].keys()
        for key, values in found.items():
            np.testing.assert_allclose(values, expected[name][key], rtol=4e-3, atol=1e-7, err_msg=f"{name} {key}")


def test_wanda_and_activation_look_at_what_units_hand_on(model, split):
    """Against explicit loops over the inputs that hooks on whole forward passes see."""
    inputs = {}
    found = {m.tensor: m for m in matrices(model)}
    for chosen in split.by_length(BATCH):
        batch = {k: torch.from_numpy(v) for k, v in split.batch(chosen).items()}
        seen = {}
        watches = [(m, lambda x, m=m, seen=seen: seen.update({m.tensor: x})) for m in found.values()]
        with torch.no_grad(), watching(watches):
            model(**batch)
        live = batch["attention_mask"].bool()
        live = (live.T if family_of(model.config.model_type).time_major else live).flatten()
        for name, x in seen.items():
            if len(x) == len(live):
                inputs.setdefault(name, []).append(x[live].double())
    wanda, activation = score(model, "wanda", split), score(model, "activation", split)
    groups = [g for g in family_of(model.config.model_type).groups(model) if g.kind not in (*WHOLE, "width")]
    assert groups
    for group in groups:
        matrix = found[group.cuts[-1].tensor]
        x = torch.cat(inputs[matrix.tensor])
        columns = [matrix.columns(group.cuts[-1], [unit]) for unit in range(group.count)]
        weight = matrix.read().double()
        by_unit = [float((weight[:, c].abs() * x[:, c].norm(dim=0)).sum()) for c in columns]
        np.testing.assert_allclose(wanda[group.name], by_unit, rtol=1e-3)
        strength = [float(x[:, c].square().sum(1).mean()) for c in columns]
        np.testing.assert_allclose(activation[group.name], strength, rtol=1e-3)


@pytest.mark.parametrize("name", sorted(CRITERIA))
def test_every_criterion_on_every_kind(model, split, name):
    """It scores every group with numbers that differ, or leaves the residual width out, which no matrix joins."""
    found = score(model, name, split)
    groups = {group.name: group.count for group in family_of(model.config.model_type).groups(model)}
    assert set(groups) - set(found) <= {"width.0"}
    for key, values in found.items():
        assert values.shape == (groups[key],)
        assert values.isfinite().all()
        assert values.dtype == torch.float32
        assert groups[key] == 1 or values.unique().numel() > 1, key


@pytest.mark.parametrize("name", sorted(set(CRITERIA) - {"activation", "obs_fisher"}))
def test_single_weights(name):
    """Scores of single weights have the shape of their matrices; those of gradients add up to their units'."""
    model, split = build("gpt2"), rows()
    found = score(model, name, split, weights=True)
    for matrix in matrices(model):
        assert found[f"weight.{matrix.tensor}"].shape == matrix.parameter.shape
    if name in {"fisher", "gradient", "taylor_absolute"}:
        group = next(g for g in family_of("gpt2").groups(model) if g.kind == "ffn")
        cut = next(cut for cut in group.cuts if cut.tensor.endswith("weight"))
        bias = next(cut for cut in group.cuts if cut.tensor.endswith("bias"))
        assert 0 < found[f"weight.{cut.tensor}"].sum() <= found[group.name].sum()
        assert bias.tensor != cut.tensor


def test_the_first_that_obs_removes_costs_least(split):
    """By brute force: each neuron removed alone, with all others refitted by least squares."""
    model = build("bert")
    group = next(g for g in family_of("bert").groups(model) if g.kind == "neuron")
    matrix = next(m for m in matrices(model) if m.tensor == group.cuts[-1].tensor)
    parts = []
    with torch.no_grad(), watching([(matrix, parts.append)]):
        batch = {k: torch.from_numpy(v) for k, v in rows(60).batch(range(60)).items()}
        model(**batch)
    x = parts[0][batch["attention_mask"].bool().flatten()].double()
    gram = x.T @ x
    gram += 0.01 * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
    root, weight = torch.linalg.cholesky(gram), matrix.read().double()
    costs = []
    for unit in range(group.count):
        stay = [i for i in range(group.count) if i != unit]
        fitted = torch.linalg.lstsq(root.T[:, stay], root.T @ weight.T).solution
        costs.append(float((root.T[:, stay] @ fitted - root.T @ weight.T).square().sum()))
    found = score(model, "obs", rows(60), 60)[group.name]
    assert int(found.argmin()) == int(np.argmin(costs))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_taylor_ranks_as_removal_does(family):
    """On one batch, |sum w dL/dw| over what a neuron feeds on and feeds against the loss without it."""
    model, split = build(family), rows(64, seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    found = score(model, "taylor", split, len(split))

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


def test_leaves_the_model_as_it_was(model):
    before = [p.clone() for p in model.parameters()]
    score(model, "taylor", rows(8), 4)
    assert all(
        p.grad is None and p.requires_grad and torch.equal(p, b)
        for p, b in zip(model.parameters(), before, strict=True)
    )


def test_random_goes_by_its_seed(model):
    first, again, other = (score(model, "random", rows(2), seed=seed)["head.0"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_compared_criteria_leave_the_scores_as_they_are(tmp_path, monkeypatch, split):
    save(build("bert"), tmp_path / "model")
    monkeypatch.setattr("tasks.score.read_split", lambda *_: split)
    monkeypatch.setattr("tasks.score.read_task", lambda *_: TASK)
    monkeypatch.setattr("tasks.score.SAMPLED", 100)
    files = {}
    for name, compare in (("plain", []), ("compared", ["magnitude", "fisher", "taylor"])):
        settings = resolve(None, [f"score={{criterion: taylor, compare: {compare}, rows: 24, batch_size: 8}}"]).score
        (tmp_path / name).mkdir()
        score_units(
            tmp_path / "model",
            tmp_path,
            settings,
            ["weight"],
            "accuracy",
            0,
            tmp_path / "s",
            tmp_path / name,
            compare=True,
        )
        files[name] = {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
    assert list(files["plain"]) == ["scores.safetensors"]
    assert files["compared"]["scores.safetensors"] == files["plain"]["scores.safetensors"]
    found = load_file(tmp_path / "compared/compare.safetensors")
    rows_used = split.take(np.sort(np.random.default_rng(0).permutation(len(split))[:24]))
    for criterion in ("taylor", "magnitude", "fisher"):
        own = score(load(tmp_path / "model"), criterion, rows_used, weights=True)
        assert {key.partition("/")[2] for key in found if key.startswith(f"{criterion}/")} == set(own)
        for name, values in own.items():
            taken = found[f"{criterion}/{name}"]
            if name.startswith("weight."):
                assert len(taken) <= 100
                values = values.flatten()[:: -(-values.numel() // 100)]
            torch.testing.assert_close(taken, values)
