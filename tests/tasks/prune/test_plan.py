"""Invariant 4: a goal removes what it says of the dense model, never a layer's last unit, whatever chooses."""

import itertools
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny import TASK, build, rows

from tasks.core.errors import UserError
from tasks.core.files import read_json, write_json
from tasks.families import FAMILIES, family_of
from tasks.modeling.checkpoint import load, save
from tasks.modeling.inference import forward, logits
from tasks.modeling.matrices import matrices
from tasks.modeling.shrink import dense_counts, shrink
from tasks.modeling.size import SIZES, flops, parameters, size
from tasks.prune import prune
from tasks.prune.costs import unit_costs
from tasks.recipe.load import resolve
from tasks.score import CRITERIA
from tasks.score.criterion import Sample
from tasks.score.sensitivity import measure

ALLOCATIONS = ["uniform", "global", "sensitivity", "solve"]


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    split = rows(40)
    for module in ("tasks.prune", "tasks.score.sensitivity"):
        monkeypatch.setattr(f"{module}.read_split", lambda *_: split)
        monkeypatch.setattr(f"{module}.read_task", lambda *_: TASK)
    return split


def settings_of(**changes):
    plain = {"align": 4, "rows": 40, "batch_size": 8, **changes}
    return resolve(None, [f"prune.{key}={json.dumps(value)}" for key, value in plain.items()]).prune


def run(tmp_path, model, prepared, settings, number=0, criterion="taylor"):
    weights = "weight" in settings.kinds
    scores, out = tmp_path / "scores", tmp_path / f"cut{number}"
    if not (tmp_path / SIZES).exists():
        write_json(tmp_path / SIZES, size(model, float(prepared.lengths.mean())))
    source = tmp_path / "source"
    save(model, source)
    scores.mkdir(exist_ok=True)
    save_file(CRITERIA[criterion](Sample(model, prepared, 8, TASK, weights=weights)), scores / "scores.safetensors")
    if settings.curves:
        measure(source, tmp_path, settings, 0, scores)
    prune(source, scores, tmp_path, tmp_path, number, criterion, settings, 0, out, times=tmp_path)
    return load(out), read_json(out / "plan.json")


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_rounds_reach_their_share_of_the_dense_model(tmp_path, prepared, allocation):
    settings = settings_of(rounds=[0.25, {"head": 0.5, "neuron": 0.5}], allocation=allocation)
    model = build("bert")
    for number, share in enumerate((0.25, 0.5)):
        model, plan = run(tmp_path, model, prepared, settings, number)
        left = {}
        for group in family_of("bert").groups(model):
            left.setdefault(group.kind, []).append(group.count)
        for kind, block in (("head", 1), ("neuron", 4)):
            dense = sum(dense_counts(model)[kind])
            slack = {"global": 0.5, "uniform": 3, "sensitivity": 2, "solve": 1}[allocation] * block
            assert abs(sum(left[kind]) - dense * (1 - share)) <= slack, (kind, left)
            assert all(count and (kind == "head" or count % 4 == 0) for count in left[kind])
        assert plan["allocation"] == allocation
        assert bool(plan["sensitivity"]) == (allocation in {"sensitivity", "solve"})


@pytest.mark.parametrize("cost", ["parameters", "flops"])
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_share_of_the_cost(tmp_path, prepared, name, cost):
    """Over all kinds together, counted on the models themselves."""
    model, length = build(name), float(prepared.lengths.mean())
    size = {"parameters": lambda m: parameters(m), "flops": lambda m: flops(m, length)}[cost]
    kinds = ["kv_group", "neuron"] if "kv_group" in dense_counts(model) else ["head", "neuron"]
    smaller, _ = run(tmp_path, model, prepared, settings_of(kinds=kinds, rounds=[{cost: 0.25}]))
    largest = max(unit_costs(model, length)[f"{kind}.0"][cost] * (4 if kind == "neuron" else 1) for kind in kinds)
    assert size(model) * 0.75 - largest <= size(smaller) <= size(model) * 0.75


SECONDS = {"head": (0.004, 0.001), "neuron": (0.0002, 0.02)}
"""Of a unit, and of the sublayer that it lies in as long as it has any."""
SUBLAYER = {"head": "attention", "neuron": "ffn"}


def seconds(model):
    """Of a text alone, beside what every layer takes."""
    groups = [group for group in family_of(model.config.model_type).groups(model) if group.kind in SECONDS]
    return sum(SECONDS[group.kind][0] * group.count + SECONDS[group.kind][1] for group in groups)


def plant(tmp_path, model, kinds):
    """A table of times as measured: 1 s for what is not pruned."""
    whole, entries = 1 + seconds(model), {}
    for kind, (each, fixed) in SECONDS.items():
        (count, *_) = dense_counts(model)[kind]
        levels = [*range(4, count, 4), count] if kind == "neuron" else list(range(1, count + 1))
        saved = [[each * (count - level)] * 2 for level in levels[:-1]]
        if SUBLAYER[kind] in kinds:
            levels, saved = [0, *levels], [[each * count + fixed] * 2, *saved]
            entries[SUBLAYER[kind]] = [{"layers": [0, 1, 2], "levels": [0, 1], "saved": [saved[0]]}]
        entries[kind] = [{"layers": [0, 1, 2], "levels": levels, "saved": saved}]
    write_json(tmp_path / "table.json", {"whole": [whole, whole], "kinds": entries})
    return whole


@pytest.mark.parametrize("wholes", [(), ("attention", "ffn")])
@pytest.mark.parametrize("allocation", ["uniform", "sensitivity", "solve"])
def test_a_share_of_the_latency(tmp_path, prepared, allocation, wholes):
    """In two rounds, of which the second goes on from what the first left."""
    model, kinds = build("bert"), ["head", "neuron", *wholes]
    whole = plant(tmp_path, model, kinds)
    rounds = [{"latency": 0.02}, {"latency": 0.045}]
    settings = settings_of(kinds=kinds, rounds=rounds, allocation=allocation, align=4)
    step = max(each * block for (each, _), block in zip(SECONDS.values(), (1, 4), strict=True))
    step = {"uniform": 6 * step, "sensitivity": 24 * step, "solve": 3 * step}[allocation] + bool(wholes) * 0.03
    for number, entry in enumerate(rounds):
        model, plan = run(tmp_path, model, prepared, settings, number)
        limit = whole * (1 - entry["latency"])
        assert limit - step <= 1 + seconds(model) <= limit + 1e-9
        assert plan["goal"] == entry


@pytest.mark.parametrize("share", [0.03, 0.06])
def test_a_sublayer_goes_with_the_last_of_its_units_where_that_loses_least(tmp_path, prepared, share):
    """Against all ways there are, at the losses that were measured."""
    model, kinds = build("bert"), ["neuron", "ffn"]
    whole = plant(tmp_path, model, kinds)
    settings = settings_of(kinds=kinds, rounds=[{"latency": share}], allocation="solve", align=4)
    smaller, plan = run(tmp_path, model, prepared, settings)
    curves = [
        {0: plan["sensitivity"][f"ffn.{layer}"]["0"]}
        | {int(kept): loss for kept, loss in plan["sensitivity"][f"neuron.{layer}"].items()}
        for layer in range(3)
    ]
    losses = [{n: max(loss for m, loss in curve.items() if m >= n) for n in curve} for curve in curves]
    each, fixed = SECONDS["neuron"]
    full = max(curves[0])
    ways = {
        way: sum(loss[count] for loss, count in zip(losses, way, strict=True))
        for way in itertools.product(*losses)
        if sum(each * (full - count) + fixed * (not count) for count in way) >= share * whole - 1e-12
    }
    kept = {group["layer"]: len(group["kept"]) for group in plan["groups"] if group["kind"] == "neuron"}
    assert ways[tuple(kept[layer] for layer in range(3))] == pytest.approx(min(ways.values()), abs=1e-9)
    stays = {group["layer"]: len(group["kept"]) for group in plan["groups"] if group["kind"] == "ffn"}
    assert stays == {layer: int(count > 0) for layer, count in kept.items()}
    assert not all(stays.values())
    left = [group.layer for group in family_of("bert").groups(smaller) if group.kind == "neuron"]
    assert left == [layer for layer, count in kept.items() if count]


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("cost", ["parameters", "flops"])
def test_a_share_of_the_cost_may_take_whole_sublayers(tmp_path, prepared, cost, allocation):
    """Counted on the model itself: what is named as a part and as a whole counts once."""
    model, length = build("gpt2"), float(prepared.lengths.mean())
    size = {"parameters": lambda m: parameters(m), "flops": lambda m: flops(m, length)}[cost]
    kinds = ["head", "neuron", "attention", "ffn"]
    settings = settings_of(kinds=kinds, rounds=[{cost: 0.3}], allocation=allocation)
    smaller, _ = run(tmp_path, model, prepared, settings)
    assert 0.5 * size(model) <= size(smaller) <= 0.7 * size(model)


def test_unit_costs_are_what_goes(model):
    """Of every kind, units removed of a layer, on the models themselves."""
    name = model.config.model_type
    costs = unit_costs(model, 9.0)
    for group in family_of(name).groups(model):
        if group.layer or group.kind in {"width", "layer"}:
            continue
        units = [u for u in range(group.count) if u % (group.count // group.balance) != 0]
        others = [list(range(g.count)) for g in family_of(name).groups(model) if g.kind == group.kind and g.layer]
        kept = {group.kind: [units, *others]}
        smaller = shrink(model, kept)
        gone = group.count - len(units)
        assert parameters(model) - parameters(smaller) == pytest.approx(gone * costs[group.name]["parameters"])
        assert flops(model, 9.0) - flops(smaller, 9.0) == pytest.approx(gone * costs[group.name]["flops"])


def test_counts_and_thresholds(tmp_path, prepared):
    model = build("bert")
    scores = CRITERIA["taylor"](Sample(model, prepared, 8, TASK))
    heads = torch.cat([scores[f"head.{layer}"] for layer in range(3)]).sort().values
    threshold = float(heads[4:6].mean())
    goal = {"head": {"threshold": threshold}, "neuron": {"count": 40}}
    smaller, plan = run(tmp_path, model, prepared, settings_of(rounds=[goal], reconstruct=False))
    gone = [score for group in plan["groups"] if group["kind"] == "head" for score in group["removed_scores"]]
    assert 1 <= len(gone) <= 5
    assert max(gone) < threshold
    assert sum(len(g["removed"]) for g in plan["groups"] if g["kind"] == "neuron") == 40
    assert parameters(smaller) < parameters(model)


def test_whole_sublayers_and_layers_go(tmp_path, prepared):
    model = build("llama")
    settings = settings_of(kinds=["attention", "ffn"], rounds=[{"attention": {"count": 1}, "ffn": {"count": 2}}])
    smaller, _ = run(tmp_path, model, prepared, settings)
    left = [group.kind for group in family_of("llama").groups(smaller) if group.kind in {"attention", "ffn"}]
    assert sorted(left) == ["attention", "attention", "ffn"]
    layers = settings_of(kinds=["layer"], rounds=[{"layer": {"count": 2}}])
    smaller, plan = run(tmp_path, model, prepared, layers, criterion="magnitude")
    assert smaller.config.num_hidden_layers == 1
    assert sorted(len(group["kept"]) for group in plan["groups"]) == [0, 0, 1]


@pytest.mark.parametrize("name", ["bert", "xlnet", "gpt2", "llama"])
@pytest.mark.parametrize(
    ("criterion", "again"), [("magnitude", False), ("wanda", False), ("wanda", True), ("obs", True)]
)
def test_single_weights(tmp_path, prepared, name, criterion, again):
    """Half of every matrix, and two of four; what is adapted is nearer to the dense model than what is not."""
    model = build(name)
    settings = settings_of(kinds=["weight"], rounds=[0.5, {"weight": {"pattern": "2:4"}}], reconstruct=again)
    half, _ = run(tmp_path, model, prepared, settings, criterion=criterion)
    assert parameters(half) == parameters(model)
    for matrix in matrices(half):
        zeros = float((matrix.read() == 0).double().mean())
        assert zeros == pytest.approx(0.5, abs=1 / matrix.width)
    (tmp_path / "cut0").rename(tmp_path / "half")
    pattern, _ = run(tmp_path, model, prepared, settings, 1, criterion)
    for matrix in matrices(pattern):
        if matrix.width % 4 == 0:
            assert ((matrix.read() != 0).reshape(-1, 4).sum(1) <= 2).all()


@pytest.mark.parametrize("how", ["random", "adaptive"])
@pytest.mark.parametrize("kinds", [["neuron"], ["weight"]])
def test_unselected_units_start_again_until_the_last_round(tmp_path, prepared, how, kinds):
    model = build("gpt2")
    settings = settings_of(kinds=kinds, rounds=[0.25, 0.5], unselected=how, reconstruct=False)
    again, plan = run(tmp_path, model, prepared, settings, criterion="magnitude")
    assert parameters(again) == parameters(model)
    assert plan["unselected"] == how
    before, after = (dict(one.named_parameters()) for one in (model, again))
    changed = {name: float((before[name] != after[name]).double().mean()) for name in before}
    inside = [name for name in changed if name.endswith("mlp.c_fc.weight")]
    assert sum(changed[name] for name in inside) / 3 == pytest.approx(0.25, abs=0.1)
    assert all((after[name] == 0).sum() == 0 for name in inside)
    if kinds == ["neuron"]:
        assert not any(changed[name] for name in changed if ".mlp." not in name)
    last, plan = run(tmp_path, again, prepared, settings, 1, criterion="magnitude")
    assert plan["unselected"] == "remove"
    if kinds == ["neuron"]:
        assert parameters(last) < parameters(model)
    else:
        assert all(float((m.read() == 0).double().mean()) == pytest.approx(0.5, abs=0.05) for m in matrices(last))


def test_refitting_loses_less(tmp_path, prepared):
    model, fresh = build("bert"), rows(80, seed=4)
    dense = logits(forward(model), fresh, 20)
    lost = {}
    for again in (False, True):
        smaller, plan = run(tmp_path, model, prepared, settings_of(rounds=[0.5], reconstruct=again))
        lost[again] = float(np.square(logits(forward(smaller), fresh, 20) - dense).mean())
        assert bool(plan["errors"]) == again
    assert lost[True] < lost[False]


def test_refuses_what_it_cannot_do(tmp_path, prepared):
    model = build("bert")
    with pytest.raises(UserError, match=r"kv_group.*a bert has attention, ffn, head, layer, neuron"):
        run(tmp_path, model, prepared, settings_of(kinds=["kv_group"]))
    with pytest.raises(UserError, match=r"width.*says nothing of them"):
        run(tmp_path, model, prepared, settings_of(kinds=["width"]), criterion="wanda")
    with pytest.raises(UserError, match="smallest"):
        run(tmp_path, model, prepared, settings_of(rounds=[{"parameters": 0.99}]))
