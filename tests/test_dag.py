"""dvc.yaml lists what each stage's code really is, and names the functions that there are."""

import ast
import subprocess
from pathlib import Path

import grimp
import pytest
import yaml

import tasks.stages
from tasks.recipe.load import dump, resolve

ROOT = Path(tasks.stages.__file__).parents[1]
DAG = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
TREE = ast.parse((ROOT / "tasks" / "stages.py").read_text())
FUNCTIONS = {node.name: node for node in TREE.body if isinstance(node, ast.FunctionDef)}


def imported(function):
    """Modules that a function of tasks/stages.py imports, itself or through a helper in that file."""
    found = set()
    for node in ast.walk(function):
        if isinstance(node, ast.ImportFrom):
            found.add(node.module)
        if isinstance(node, ast.Name) and node.id.startswith("_") and node.id in FUNCTIONS:
            found |= imported(FUNCTIONS[node.id])
    return found


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("tasks", cache_dir=None)


@pytest.mark.parametrize("stage", sorted(DAG))
def test_deps_hold_all_code(stage, graph):
    """Every package that the stage's function reaches; and none that it does not, for that would run it needlessly."""
    entry = DAG[stage].get("do", DAG[stage])
    declared = {dep for dep in entry["deps"] if dep.startswith("tasks/")}
    start = imported(FUNCTIONS[stage]) | {"tasks.core.rounds", "tasks.recipe.job"}
    modules = start | {module for one in start for module in graph.find_upstream_modules(one)}
    packages = {"/".join(module.split(".")[:2]) for module in modules if module.count(".")}
    assert declared == packages | {"tasks/stages.py"}


def test_a_fresh_clone_has_the_quickstart_as_its_pipeline():
    """So that `dvc dag` and `dvc repro` work there before any run."""
    git = ["git", "show", "HEAD:params/pipeline.yaml"]
    assert subprocess.run(git, cwd=ROOT, check=True, capture_output=True, text=True).stdout == dump(resolve(None, []))


def test_every_stage_has_its_function():
    assert set(DAG) == set(tasks.stages.STAGES)


def test_every_stage_says_where_it_runs():
    for stage in DAG.values():
        assert stage.get("do", stage)["meta"]["pool"] in {"cpu", "gpu"}
