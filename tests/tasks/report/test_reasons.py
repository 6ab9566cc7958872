"""Plans of real rounds of every kind of unit: the rule can be checked on what is written, and the page shows them."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from test_report import Balance, change, make
from tiny import TASK, build, rows

from tasks.core.files import read_json, write_json
from tasks.modeling.checkpoint import load, save
from tasks.modeling.matrices import matrices
from tasks.modeling.size import SIZES, size
from tasks.prune import prune
from tasks.recipe.load import dump, resolve
from tasks.report.reasons import left, reasons
from tasks.score import CRITERIA
from tasks.score.criterion import Sample
from tasks.score.sensitivity import measure


@pytest.fixture
def cut(finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replaces the rounds of the run by real ones of a tiny model."""
    split = rows(24)
    for module in ("tasks.prune", "tasks.score.sensitivity"):
        monkeypatch.setattr(f"{module}.read_split", lambda *_: split)
        monkeypatch.setattr(f"{module}.read_task", lambda *_: TASK)

    def rounds(name: str, criterion: str = "taylor", **changes: Any) -> Any:
        given = {"align": 4, "rows": 24, "batch_size": 8, **changes}
        values = [f"prune.{key}={json.dumps(value)}" for key, value in given.items()]
        recipe = resolve(None, [*values, f"score.criterion={criterion}"])
        (finished_run / "params/pipeline.yaml").write_text(dump(recipe), encoding="utf-8")
        model, source = build(name), finished_run / "models/dense"
        save(model, source)
        write_json(finished_run / "data/teacher" / SIZES, size(model, float(split.lengths.mean())))
        (finished_run / "data/scores/r1/compare.safetensors").unlink()
        for number in range(len(recipe.prune.goals)):
            key = f"r{number + 1}"
            scores, out = finished_run / f"data/scores/{key}", finished_run / f"models/cut/{key}"
            sample = Sample(load(source), split, 8, TASK, weights="weight" in recipe.prune.kinds)
            save_file(CRITERIA[criterion](sample), scores / "scores.safetensors")
            if recipe.prune.curves:
                measure(source, source, recipe.prune, 0, scores)
            teacher = finished_run / "data/teacher"
            prune(source, scores, source, teacher, number, criterion, recipe.prune, 0, out)
            source = out
        return recipe

    return rounds


def page_of(root: Path) -> str:
    page = (make(root, root / "out") / "report.html").read_text(encoding="utf-8")
    parser = Balance()
    parser.feed(page)
    assert (parser.open, parser.wrong) == ([], [])
    return page


@pytest.mark.parametrize(
    "changes",
    [
        {"kinds": ["head", "neuron"], "rounds": [0.3, 0.5]},
        {"kinds": ["head", "neuron"], "rounds": [0.3, 0.5], "normalize": True},
        {"kinds": ["head", "neuron"], "rounds": [{"flops": 0.3}, {"flops": 0.5}], "normalize": True},
        {"kinds": ["neuron"], "rounds": [{"neuron": {"threshold": 0.02}}, {"neuron": {"threshold": 0.03}}], "align": 1},
    ],
)
def test_the_threshold_lies_between_what_went_and_what_stays(finished_run: Path, cut: Any, changes: Any) -> None:
    recipe = cut("bert", **changes)
    entries = reasons(finished_run / "models/cut", recipe.prune)
    assert [entry["round"] for entry in entries] == ["r1", "r2"]
    for entry in entries:
        assert set(entry["scored"]) == set(recipe.prune.kinds)
        assert sum(group["removed"] for group in entry["groups"]) > 0
        scores = load_file(finished_run / f"data/scores/{entry['round']}/scores.safetensors")
        plan = read_json(finished_run / f"models/cut/{entry['round']}/plan.json")
        for group, facts in zip(entry["groups"], plan["groups"], strict=True):
            threshold = entry["threshold"][group["kind"]]
            assert group["highest_removed"] is None or group["highest_removed"] <= threshold * (1 + 1e-12)
            assert group["lowest_kept"] is None or group["lowest_kept"] >= threshold * (1 - 1e-12)
            if group["highest_removed"] is not None and (group["kind"] == "head" or recipe.prune.align == 1):
                gone = max(facts["removed_scores"]) / group["divisor"]
                assert gone == pytest.approx(group["highest_removed"], rel=1e-5)
            assert group["removed"] + group["kept"] == len(scores[facts["name"]])


@pytest.mark.parametrize(
    ("name", "changes", "pictures"),
    [
        ("llama", {"kinds": ["kv_group", "neuron"], "rounds": [0.3, 0.5], "allocation": "sensitivity"}, 7),
        ("gpt2", {"kinds": ["attention", "ffn"], "rounds": [0.34, 0.5]}, 6),
        ("llama", {"kinds": ["layer"], "rounds": [{"layer": {"count": 1}}, {"layer": {"count": 2}}]}, 6),
        ("bert", {"kinds": ["width"], "rounds": [0.25, 0.5], "reconstruct": False}, 6),
        ("llama", {"kinds": ["weight"], "rounds": [0.3, 0.6]}, 6),
        ("gpt2", {"kinds": ["head", "weight"], "rounds": [{"head": 0.25}, {"weight": {"pattern": "2:4"}}]}, 7),
    ],
)
def test_every_kind_is_shown(finished_run: Path, cut: Any, name: str, changes: Any, pictures: int) -> None:
    recipe = cut(name, **changes)
    page = page_of(finished_run)
    assert page.count("<svg") == pictures
    seen = {group["kind"] for group in left(finished_run / "models/cut")[-1]["layers"]}
    assert seen == set(recipe.prune.kinds)
    assert read_json(finished_run / "out/explanation.json")["removed"] == reasons(
        finished_run / "models/cut", recipe.prune
    )


def test_what_went_before_stays_gone(finished_run: Path, cut: Any) -> None:
    cut("llama", kinds=["layer", "neuron"], rounds=[{"layer": {"count": 1}}, {"neuron": 0.6}])
    first, second = left(finished_run / "models/cut")
    places = [{(g["kind"], g["layer"]): g["kept"] for g in entry["layers"]} for entry in (first, second)]
    gone = [layer for kind, layer in places[0] if kind == "layer" and not places[0][kind, layer]]
    assert len(gone) == 1
    for kept in places:
        assert kept["layer", gone[0]] == kept["neuron", gone[0]] == 0
    model = load(finished_run / "models/cut/r2")
    assert [count for (kind, _), count in places[1].items() if kind == "neuron" and count] == [
        layer.mlp.up_proj.out_features for layer in model.model.layers
    ]
    layers = read_json(finished_run / "models/cut/r2/plan.json")["layers"]
    assert layers == [layer for layer in range(3) if layer != gone[0]]
    entry = reasons(finished_run / "models/cut", resolve(None, []).prune)[1]
    assert {error["layer"] for error in entry["errors"]} <= set(layers)
    assert all(f".{error['layer']}." in error["matrix"] for error in entry["errors"])


@pytest.mark.parametrize("criterion", ["magnitude", "wanda", "obs"])
def test_zeros_are_those_of_the_checkpoint(finished_run: Path, cut: Any, criterion: str) -> None:
    recipe = cut("gpt2", criterion, kinds=["weight"], rounds=[0.5])
    entry = reasons(finished_run / "models/cut", recipe.prune)[0]
    model = load(finished_run / "models/cut/r1")
    scores = load_file(finished_run / "data/scores/r1/scores.safetensors")
    for facts, matrix in zip(entry["weights"], matrices(model), strict=True):
        values = matrix.parameter
        assert (facts["matrix"], facts["layer"], facts["before"]) == (matrix.tensor, matrix.layer, values.numel())
        assert facts["kept"] == int((values != 0).sum()) == round(0.5 * values.numel())
        gone = scores[f"weight.{matrix.tensor}"][values == 0]
        assert facts["highest_removed"] == float(gone.max())
        assert criterion != "magnitude" or facts["highest_removed"] <= facts["lowest_kept"]
    assert "column by column" in entry["rules"]["weight"] or criterion != "obs"


def test_a_run_in_which_only_the_vocabulary_goes(finished_run: Path) -> None:
    def only_tokens(plan: Any) -> None:
        plan.update(groups=[], weights=[], errors={}, sensitivity={}, threshold={}, goal={"vocabulary": True})
        plan["vocabulary"] = {"before": 30522, "after": 11822, "proof": {"exact": 19680, "changed": 0}}

    change(finished_run / "models/cut/r1/plan.json", only_tokens)
    (finished_run / "models/cut/r2/plan.json").unlink()
    assert "r1: vocabulary: of 30522 tokens those go that the data do not use, or too rarely; 11822 stay" in page_of(
        finished_run
    )
    assert not (finished_run / "out/removed.png").exists()
