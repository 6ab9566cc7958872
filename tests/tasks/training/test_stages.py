"""What recipes say of training, through the stages: what pruning leaves holds in the fine-tuning that follows."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import tasks.training.loop
from tasks.core.errors import UserError
from tasks.core.files import read_json, tree_hash
from tasks.finetune import finetune
from tasks.modeling.checkpoint import load
from tasks.modeling.inference import forward, logits
from tasks.modeling.matrices import matrices
from tasks.modeling.size import parameters
from tasks.prepare import prepare
from tasks.prune import prune
from tasks.recipe.load import resolve
from tasks.score import score_units
from tasks.text.data import read_split
from tasks.text.registry import read_task
from tasks.train import train_dense
from tasks.training.extra import Extra
from tasks.training.loop import fit
from tasks.training.loss import supervised
from tests.flows.tiny import make_model, make_rows

SETTINGS = [
    "data.source=rows.csv", "data.label=label", "data.labels=null", "data.group=null", "data.unescape=false",
    "model.source=model", "task.max_length=16", "prune.align=4", "prune.rows=64", "prune.reconstruct=false",
    "score.rows=64", "score.criterion=magnitude", "train.early=0.5", "train.epochs=2",
]  # fmt: skip
for section in ("train", "finetune", "score.training"):
    SETTINGS += [f"{section}.{setting}" for setting in ("batch_size=16", "learning_rate=2e-3", "precision=fp32")]
    SETTINGS += [f"{section}.checkpoint_steps=5"]
EARLY = 8
"""Half of an epoch of 15 steps."""


def recipe_of(*more: str):
    return resolve(None, [*SETTINGS, *more])


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Prepared data and a dense model."""
    root = tmp_path_factory.mktemp("run")
    make_model(root / "model")
    make_rows(root / "rows.csv")
    recipe = recipe_of()
    (root / "prepared").mkdir()
    prepare(recipe.data, recipe.task, recipe.model, 0, root, root / "prepared")
    dense(root, root)
    return root


def dense(run, root):
    for name in ("dense", "teacher"):
        (root / name).mkdir()
    train_dense(
        run / "model", run / "prepared", recipe_of().train, "accuracy", 0, root / "s0", root / "dense", root / "teacher"
    )


def scored(run, root, recipe, model, number=0):
    out = root / f"scores{number}"
    out.mkdir(exist_ok=True)
    scratch = root / f"s1{number}"
    score_units(model, run / "prepared", recipe.score, recipe.prune.kinds, "accuracy", 0, scratch, out)
    return out


def cut_of(run, root, recipe, model, number=0):
    scores, out = scored(run, root, recipe, model, number), root / f"cut{number}"
    out.mkdir()
    early = run / "dense" / "early" if recipe.prune.rewind else None
    prune(
        model, scores, run / "prepared", run / "teacher", number, recipe.score.criterion, recipe.prune, 0, out, early,
        recipe.finetune.gradual,
    )  # fmt: skip
    return out


def tuned(run, root, recipe, cut, number=0):
    out = root / f"r{number}"
    out.mkdir()
    scratch = root / f"s2{number}"
    finetune(
        cut, run / "dense", run / "prepared", run / "teacher", recipe.finetune, "accuracy", 0, scratch, out
    )  # fmt: skip
    return out


def zeros(directory):
    return {matrix.tensor: matrix.parameter.detach() == 0 for matrix in matrices(load(directory))}


def share(masks):
    return [float(mask.double().mean()) for mask in masks.values()]


def killed_at(monkeypatch, step):
    """The next training ends before its step number `step`, as by a kill."""
    rate, left = tasks.training.loop.learning_rate, [1]

    def cut(now, *rest):
        if now == step and left and left.pop():
            raise KeyboardInterrupt
        return rate(now, *rest)

    monkeypatch.setattr(tasks.training.loop, "learning_rate", cut)


class Snapshot(Extra):
    name = "snapshot"

    def attach(self, model, parameters, groups):
        self.model = model
        return []

    def after_step(self, step, steps):
        if step == EARLY:
            self.found = {name: p.detach().clone() for name, p in self.model.named_parameters()}


def test_early_weights_are_those_of_that_step(run, tmp_path, monkeypatch):
    recipe, seen = recipe_of(), Snapshot()
    split, task = read_split(run / "prepared", "train"), read_task(run / "prepared")
    objective, start = supervised(task, split), load(run / "s0" / "start")
    validation = read_split(run / "prepared", "validation")
    fit(start, split, validation, recipe.train, objective, task, "accuracy", 0, tmp_path / "fit", [seen])
    early = dict(load(run / "dense" / "early").named_parameters())
    assert early.keys() == seen.found.keys()
    assert all(torch.equal(early[name], values) for name, values in seen.found.items())
    for number, step in enumerate((EARLY - 1, EARLY + 1, EARLY + 4)):
        root = tmp_path / str(number)
        root.mkdir()
        killed_at(monkeypatch, step)
        with pytest.raises(KeyboardInterrupt):
            dense(run, root)
        monkeypatch.undo()
        for name in ("dense", "teacher"):
            (root / name).rmdir()
        dense(run, root)
        assert tree_hash(root / "dense") == tree_hash(run / "dense")


@pytest.mark.parametrize("penalty", ["l1", "l2", "group_lasso"])
def test_penalties_shrink_the_units(run, tmp_path, penalty):
    sizes = []
    (tmp_path / "cut").mkdir()
    for file in (run / "dense").glob("*.*"):
        (tmp_path / "cut" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "cut" / "plan.json").write_text("{}")
    for number, strength in enumerate((0.0, 1e-2)):
        out = tuned(run, tmp_path, recipe_of(f"finetune.{penalty}={strength}"), tmp_path / "cut", number)
        sizes.append(sum(float(matrix.parameter.detach().square().sum()) for matrix in matrices(load(out))))
        curves = read_json(out / "training.json")
        assert set(curves) == {"curve", "validation", "best_epoch", *([penalty] if strength else [])}
    assert sizes[1] < 0.9 * sizes[0]


WEIGHTS = ["prune.kinds=[weight]", "prune.rounds=[0.5, 0.6]"]


def test_zeros_stay_in_the_finetuning_and_regrowth_moves_them(run, tmp_path):
    cut = cut_of(run, tmp_path, recipe_of(*WEIGHTS), run / "dense")
    assert read_json(cut / "plan.json")["zeros"] is True
    before = zeros(cut)
    assert share(before) == pytest.approx([0.5] * len(before))
    stayed = tuned(run, tmp_path, recipe_of(*WEIGHTS), cut)
    after, weights = zeros(stayed), dict(load(stayed).named_parameters())
    assert all(torch.equal(after[name], mask) for name, mask in before.items())
    assert any((weights[name] != value).any() for name, value in load(cut).named_parameters())
    moved = zeros(tuned(run, tmp_path, recipe_of(*WEIGHTS, "finetune.regrowth=0.3"), cut, 1))
    assert share(moved) == pytest.approx([0.5] * len(moved), abs=1e-2)  # new weights start at 0, and few stay there
    assert any(not torch.equal(moved[name], mask) for name, mask in before.items())


def test_gradual_pruning_reaches_the_share_of_each_round_in_its_training(run, tmp_path):
    recipe, model = recipe_of(*WEIGHTS, "finetune.gradual=true"), run / "dense"
    for number, (before, after) in enumerate([(0.0, 0.5), (0.5, 0.6)]):
        cut = cut_of(run, tmp_path, recipe, model, number)
        assert share(zeros(cut)) == pytest.approx([before] * 18, abs=1e-3)
        assert read_json(cut / "plan.json")["gradual"] == after
        model = tuned(run, tmp_path, recipe, cut, number)
        assert share(zeros(model)) == pytest.approx([after] * 18, abs=1e-3)
    curve = [entry["sparsity"] for entry in read_json(model / "training.json")["gradual"]]
    assert 0.5 <= curve[0] <= curve[-1] == pytest.approx(0.6, abs=1e-3)


def test_what_is_drawn_anew_may_grow(run, tmp_path):
    recipe = recipe_of(*WEIGHTS, "prune.unselected=random")
    cut = cut_of(run, tmp_path, recipe, run / "dense")
    assert "zeros" not in read_json(cut / "plan.json")
    assert max(share(zeros(tuned(run, tmp_path, recipe, cut)))) == 0


def test_rewinding_gives_what_stays_its_early_weights(run, tmp_path):
    rounds = "prune.rounds=[{head: 0.25, neuron: 0.25}, {head: 0.4, neuron: 0.5, weight: 0.5}]"
    recipe, model = recipe_of("prune.kinds=[head, neuron, weight]", rounds, "prune.rewind=true"), run / "dense"
    early = {name: p.detach() for name, p in load(run / "dense" / "early").named_parameters()}
    for number in range(2):
        cut = cut_of(run, tmp_path, recipe, model, number)
        found = load(cut)
        kept = found.config.pruned["kept"]
        names = {name: p.detach() for name, p in found.named_parameters()}
        for name, values in names.items():
            expected = early[name]
            layer = name.split(".")[3] if ".layer." in name else ""
            if layer and "intermediate" in name:
                expected = expected[kept["neuron"][layer]]
            elif layer and ".output.dense.weight" in name and "attention" not in name:
                expected = expected[:, kept["neuron"][layer]]
            elif layer and "attention" in name and "LayerNorm" not in name and not name.endswith("output.dense.bias"):
                entries = np.concatenate([np.arange(8) + 8 * head for head in kept["head"][layer]])
                expected = expected[:, entries] if "output" in name else expected[entries]
            if number and layer and values.ndim > 1:
                assert float((values == 0).double().mean()) == pytest.approx(0.5, abs=0.01)
                expected = torch.where(values == 0, 0.0, expected)
            assert torch.equal(values, expected), name
        model = tuned(run, tmp_path, recipe, cut, number)
    assert sum(map(len, kept["neuron"].values())) == 3 * 32


L0 = ["score.criterion=l0", "score.training.epochs=4", "score.gate_rate=0.3"]
SHUT = "prune.rounds=[{head: {threshold: 1.0e-6}, neuron: {threshold: 1.0e-6}}]"


def test_a_higher_price_of_open_gates_gives_a_smaller_model(run, tmp_path, monkeypatch):
    """Three λ; what goes is shut, so the outputs stay; a kill on the way changes no byte."""
    left, validation = [], read_split(run / "prepared", "validation")
    for strength in (0.0, 0.01, 0.3):
        root = tmp_path / str(strength)
        root.mkdir()
        recipe = recipe_of(*L0, SHUT, "prune.align=1", f"score.penalty={strength}")
        smaller = load(cut_of(run, root, recipe, run / "dense"))
        gated = load(root / "scores0" / "model")
        assert parameters(gated) == parameters(load(run / "dense"))
        np.testing.assert_allclose(
            logits(forward(smaller), validation, 20), logits(forward(gated), validation, 20), atol=1e-5
        )
        scores = load_file(root / "scores0" / "scores.safetensors")
        assert set(scores) == {f"{kind}.{layer}" for kind in ("head", "neuron") for layer in range(3)}
        shut = sum(int((scores[f"neuron.{layer}"] == 0).sum()) for layer in range(3))
        open_layers = all((scores[f"neuron.{layer}"] > 0).any() for layer in range(3))
        if open_layers:
            assert shut == 3 * 64 - sum(len(smaller.config.pruned["kept"]["neuron"][str(i)]) for i in range(3))
        left.append(parameters(smaller))
    assert left[0] > left[1] > left[2]
    again = tmp_path / "again"
    again.mkdir()
    killed_at(monkeypatch, 22)
    with pytest.raises(KeyboardInterrupt):
        scored(run, again, recipe, run / "dense")
    assert tree_hash(scored(run, again, recipe, run / "dense")) == tree_hash(root / "scores0")


def test_a_target_of_shut_gates(run, tmp_path):
    recipe = recipe_of(*L0, "score.target=0.5", "score.training.epochs=6")
    curve = read_json(scored(run, tmp_path, recipe, run / "dense") / "training.json")["gates"]
    assert curve[-1]["goal"] == 0.5
    assert curve[-1]["expected"] == pytest.approx(0.5, abs=0.1)


def test_gates_on_what_cannot_have_them_name_another_criterion(run, tmp_path):
    with pytest.raises(UserError, match=r"layer given.*another score\.criterion"):
        scored(run, tmp_path, recipe_of(*L0, "prune.kinds=[layer]"), run / "dense")


def test_movement_scores_units_and_weights(run, tmp_path, monkeypatch):
    recipe = recipe_of("score.criterion=movement", "prune.kinds=[neuron, weight]", "prune.rounds=[0.25, 0.5]")
    cut = cut_of(run, tmp_path, recipe, run / "dense")
    model = tuned(run, tmp_path, recipe, cut)
    scores = load_file(scored(run, tmp_path, recipe, model, 1) / "scores.safetensors")
    gone = zeros(model)
    assert {name.partition(".")[0] for name in scores} == {"head", "neuron", "weight"}
    for name, mask in gone.items():
        assert torch.equal(scores[f"weight.{name}"].isneginf(), mask)
    neurons = torch.cat([scores[f"neuron.{layer}"] for layer in range(3)])
    assert neurons.isfinite().all()
    assert (neurons < 0).any()
    assert (neurons > 0).any()
    assert not (tmp_path / "scores1" / "model").exists()
    sparser = cut_of(run, tmp_path / "scores1", recipe, model, 1)
    assert share(zeros(sparser)) == pytest.approx([0.5] * 18, abs=0.01)
    (tmp_path / "again").mkdir()
    killed_at(monkeypatch, 12)
    with pytest.raises(KeyboardInterrupt):
        scored(run, tmp_path / "again", recipe, model, 1)
    again = scored(run, tmp_path / "again", recipe, model, 1)
    assert json.loads((again / "training.json").read_text()) == read_json(tmp_path / "scores1" / "training.json")
    for name, values in load_file(again / "scores.safetensors").items():
        assert torch.equal(values, scores[name])
