"""What is shown of a chain: all of it, whichever way the model is named."""

import hashlib
import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.lineage.chain import Chain, chain
from flows.lineage.find import found
from flows.lineage.page import layout, page
from flows.lineage.show import flowchart, show
from flows.lineage.state import past
from flows.workspace import write
from tasks.core.errors import UserError
from tests.flows.conftest import commit_all, hashes
from tests.flows.test_tracking import runs

ROUNDS = [f"{stage}@{item}" for item in ("r1", "r2") for stage in ("score", "prune", "finetune", "evaluate")]
STAGES = ["prepare", "train", *ROUNDS, "quantize@pruned"]
MODEL = "models/quantized/pruned"


def chain_of(root: Path, model: str) -> Chain:
    with found(root, model) as it:
        return chain(it)


def test_the_chain_has_every_stage_and_every_record(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(finished, str(finished / MODEL), True, None, None)
    seen: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert [node["stage"] for node in seen["nodes"]] == STAGES
    recorded = {run.info.run_name: run for run in runs(finished)}
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=finished, capture_output=True, text=True, check=True)
    for node in seen["nodes"]:
        assert node["mlflow"] == recorded[node["stage"]].info.run_id
        assert set(node["prefect"]) == {"prefect.flow_run", "prefect.task_run"}
        assert node["commit"] == head.stdout.strip()
        assert (node["seed"], node["device"]) == (0, "cpu")
        assert {"torch", "onnxruntime"} <= node["packages"].keys()
        for out, noted in node["outs"].items():
            assert noted["md5"] == hashes(finished)[out]
    weights = (finished / MODEL / "model.safetensors").read_bytes()
    assert seen["files"]["model.safetensors"] == hashlib.sha256(weights).hexdigest()
    data, model = seen["raw"]
    assert (data["name"], data["rows"], data["read_by"]) == ("data", 150, ["prepare"])
    assert (model["name"], model["read_by"]) == ("model", ["prepare", "train"])


def test_a_model_is_found_by_name_hash_copy_and_alias(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / MODEL, tmp_path / "copy")
    digest = hashlib.sha256((finished / MODEL / "model.safetensors").read_bytes()).hexdigest()
    by_alias = chain_of(finished, "models:/quickstart-quantized-pruned@current")
    assert by_alias.registered
    assert by_alias.registered["aliases"] == ["current"]
    for name in (digest, str(tmp_path / "copy"), "models:/quickstart-quantized-pruned/1"):
        assert chain_of(finished, name).nodes == by_alias.nodes
    assert chain_of(finished, "pruned").nodes[-1].stage == "finetune@r1"


@pytest.mark.parametrize("name", ["nonsense", "models:/quickstart@champion", "0" * 64])
def test_an_unknown_model_is_a_mistake(finished: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"there are|no file"), found(finished, name):
        pass


def test_drawings_show_every_stage_and_what_it_comes_from(finished: Path) -> None:
    class Reader(HTMLParser):
        text = ""
        fetched: list[str] = []  # noqa: RUF012

        def handle_data(self, data: str) -> None:
            self.text += data

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.fetched += [str(value) for name, value in attrs if name in ("src", "href") and value[:1] != "#"]

    seen = chain_of(finished, str(finished / MODEL))
    reader = Reader()
    reader.feed(page(seen))
    assert all(name in reader.text for name in (*STAGES, *(node.mlflow or "-" for node in seen.nodes)))
    assert reader.fetched == []
    rows = {box.name: box.y for box in layout(seen)}
    assert all(rows[parent] < rows[node.stage] for node in seen.nodes for parent in node.parents)
    lines = flowchart(seen).splitlines()
    names = {line.split("[")[0].strip(): line for line in lines if "[" in line}
    train, score = (next(key for key, line in names.items() if f'"{stage}<' in line) for stage in ("train", "score@r1"))
    assert f"    {train} --> {score}" in lines


def test_a_registered_model_of_an_earlier_state_has_the_chain_it_had(workspace: Path) -> None:
    """dvc.lock moved on; git and DVC's cache still have the state."""
    before = chain_of(workspace, "models:/quickstart-student@current")
    commit_all(workspace)
    lock = yaml.safe_load((workspace / "dvc.lock").read_text())
    lock["stages"]["distill"]["outs"][0]["md5"] = f"{0:032}.dir"
    write(workspace / "dvc.lock", yaml.safe_dump(lock))
    shutil.rmtree(workspace / "models")
    after = chain_of(workspace, "models:/quickstart-student@current")
    assert (after.files, after.nodes) == (before.files, before.nodes)
    with past(workspace, "HEAD") as state:
        temporary = state.root
    assert not temporary.exists()
