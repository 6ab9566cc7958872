"""A search of the tiny model by the real stages: its best trial made again by the pipeline, and solved anew."""

import json
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import yaml

from flows.search.jobs import jobs, view
from flows.search.level import Bench
from flows.search.stages import run
from tasks.core.files import read_json, tree_hash
from tasks.modeling.checkpoint import load
from tasks.modeling.size import size
from tasks.recipe.load import resolve
from tasks.text.data import read_split
from tests.flows.tiny import RECIPE, finish, make_tiny, secateur

SEARCH = """
threads: 1
search:
  space:
    score.criterion: {choices: [magnitude, taylor]}
    prune.rounds.0: {low: 0.4, high: 0.7}
    finetune.learning_rate: {low: 1.0e-4, high: 5.0e-3, log: true}
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_tiny(tmp_path_factory.mktemp("search") / "clone")
    recipe = RECIPE.replace("rounds: [0.25, 0.5, 0.6]", "rounds: [0.5]").replace("max_drop: 0.2", "max_drop: 0.4")
    (root / "recipe.yaml").write_text(recipe + SEARCH)
    return root


def test_a_view_has_the_very_jobs_of_the_pipeline(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.dag import Dag
    from flows.workspace import PIPELINE, write
    from tasks.recipe.load import dump

    recipe = resolve(clone / "recipe.yaml", [])
    write(clone / PIPELINE, dump(recipe))
    monkeypatch.chdir(clone)
    dag = Dag(clone)
    found = jobs(clone, view(clone, tmp_path / "view", recipe), recipe)
    assert set(found) == {stage.name for stage in dag.stages}
    for name, job in found.items():
        theirs = dag.job(name)
        assert (job.deps, job.outs, job.item) == (theirs.deps, theirs.outs, theirs.item)
        assert json.dumps(job.params, sort_keys=True) == json.dumps(theirs.params, sort_keys=True)
        assert job.code() == theirs.code()


@pytest.mark.parametrize(("model", "checkpoint"), [("student", "models/student"), ("pruned", "models/rounds/r1")])
def test_a_trial_may_end_as_a_graph(clone: Path, tmp_path: Path, model: str, checkpoint: str) -> None:
    """What it is worth is said of that, in ONNX Runtime; of a shorter training as of dynamic int8."""
    searched = f"search={{model: {model}, quantized: true, levels: [0.5, 1], space: null}}"
    recipe = resolve(clone / "recipe.yaml", [searched, f"quantize={{models: [{model}], methods: [static]}}"])
    bench = Bench(clone, tmp_path / "trial", tmp_path / "shared", run)
    half, whole = (bench.reach(recipe, f"level{level}", level, True) for level in recipe.search.levels)
    assert half["model"] == checkpoint
    assert whole["model"] == f"models/quantized/{model}/static"
    trained = [len(read_json(root / checkpoint / "training.json")["validation"]) for root in bench.roots]
    assert trained == ([3, 6] if model == "student" else [2, 4])  # epochs
    root = bench.roots[-1]
    graph = root / str(whole["model"])
    assert whole["bytes"] == (graph / "model.onnx").stat().st_size
    assert whole["sha256"] == tree_hash(graph)
    rows = read_split(root / "data/prepared", "validation", graph)
    session = onnxruntime.InferenceSession(graph / "model.onnx")
    names = {entry.name for entry in session.get_inputs()}
    batch = {name: values for name, values in rows.batch(range(len(rows))).items() if name in names}
    assert whole["quality"] == (session.run(None, batch)[0].argmax(1) == rows.labels).mean()


@pytest.mark.parametrize("count", [20, 10_000])
def test_a_draft_is_judged_on_a_part_of_validation(clone: Path, tmp_path: Path, count: int) -> None:
    recipe = resolve(clone / "recipe.yaml", [f"search.draft_rows={count}"])
    bench = Bench(clone, tmp_path / "trial", tmp_path / "shared", run)
    draft = bench.reach(recipe, "level0", 0, False)
    root = bench.roots[-1]
    rows = read_split(root / "data/prepared", "validation")
    step = -(-len(rows) // count)
    seen = range(0, len(rows), step)
    right = {}
    for name in (str(draft["model"]), "models/dense"):
        model = load(root / name)
        with torch.inference_mode():
            said = [int(model(torch.tensor(rows.input_ids[at])[None]).logits.argmax()) for at in seen]
        right[name] = (np.array(said) == rows.labels[seen]).mean()
    assert 10 < len(seen) <= count
    assert draft["quality"] == right[str(draft["model"])]
    assert draft["drop"] == pytest.approx(right["models/dense"] - right[str(draft["model"])])
    whole = size(model, float(rows.lengths.mean()))
    assert draft["flops_share"] == pytest.approx(float(draft["flops"] or 0) / whole["flops"])


@pytest.mark.long
def test_the_best_trial_is_made_again_byte_for_byte_and_solved_without_training(clone: Path, prefect: str) -> None:
    finish(secateur(clone, prefect, "search", "recipe.yaml", "--trials", "3"))
    home = clone / ".secateur/search/tiny"
    facts = json.loads((home / "report/report.json").read_text())
    best = facts["best"]
    worth = next(trial for trial in facts["trials"] if trial["number"] == best)
    model = home / f"trials/{best:04d}/level2" / worth["figures"]["model"]
    assert tree_hash(model) == worth["figures"]["sha256"]
    assert (model / "model.safetensors").stat().st_size == worth["figures"]["bytes"]

    said = finish(secateur(clone, prefect, "search", "recipe.yaml", "--apply", "best"))
    again = clone / worth["figures"]["model"]
    assert "byte-identical" in said
    for path in sorted(model.rglob("*")):
        if path.is_file():
            assert (again / path.relative_to(model)).read_bytes() == path.read_bytes(), path
    applied = yaml.safe_load((clone / f"params/tiny-{best}.yaml").read_text())
    assert applied["prune"]["rounds"] == [worth["settings"]["prune.rounds.0"]]

    before, after = {path.name for path in (home / "shared").iterdir()}, []
    for share in (0.7, 0.5, 0.4):
        said = finish(secateur(clone, prefect, "solve", "recipe.yaml", "--flops", str(share)))
        recipe = resolve(clone / f"params/tiny-flops-{share:g}.yaml", [])
        assert recipe.prune.allocation == "solve"
        found = json.loads((home / "solve/level0/data/judge/models-cut-r1/verdict.json").read_text())
        assert found["flops_share"] <= share + 1e-6
        after.append({path.name for path in (home / "shared").iterdir()} - before)
    # the curves of the dense model, which no trial asked for, serve every budget
    assert after[0] == after[1] == after[2]
    assert {name.partition("-")[0] for name in after[0]} == {"score@r1"}


@pytest.mark.long
def test_the_best_student_is_made_again_byte_for_byte(clone: Path, prefect: str) -> None:
    space = "{distill.layers: {choices: [[0], [0, 2]]}, quantize.methods: {choices: [[dynamic], [static]]}}"
    settings = [
        f"search={{model: student, quantized: true, levels: [0.5, 1], space: {space}}}",
        "quantize.models=[student]",
    ]
    words = ["recipe.yaml", "--name", "students", *(word for one in settings for word in ("--set", one))]
    finish(secateur(clone, prefect, "search", *words, "--trials", "3"))
    said = finish(secateur(clone, prefect, "search", *words, "--apply", "best"))
    assert re.search(r"models/quantized/student/(dynamic|static) is byte-identical to the model of trial \d", said)
    refused = secateur(clone, prefect, "solve", *words, "--flops", "0.5")
    assert "solve shares out what is pruned; search.model is student" in refused.communicate()[0]
    assert refused.returncode == 2
