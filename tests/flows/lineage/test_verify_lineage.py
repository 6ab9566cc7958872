"""Each kind of record is changed by a byte or a word: verify names it, and nothing is named when all is well."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows.lineage.find import found
from flows.lineage.verify import Difference, show, verify
from tests.flows.conftest import commit_all
from tests.flows.test_tracking import runs

ALIAS = "models:/quickstart-quantized-pruned@current"


@pytest.fixture(scope="module")
def root(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every test puts right what it changed."""
    copy = tmp_path_factory.mktemp("verify") / "workspace"
    shutil.copytree(finished, copy)
    return copy


def differences(root: Path, model: str = ALIAS) -> list[Difference]:
    with found(root, model) as it:
        return list(verify(it))


@contextmanager
def changed(file: Path, old: str | None = None, new: str = "") -> Iterator[None]:
    """The file with a word replaced, or with its middle byte flipped and its times as before."""
    before, times = file.read_bytes(), file.stat()
    if old is None:
        middle = len(before) // 2
        file.write_bytes(before[:middle] + bytes([before[middle] ^ 1]) + before[middle + 1 :])
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    else:
        text = re.sub(old, new, before.decode(), count=1)
        assert text != before.decode()
        file.write_text(text)
    try:
        yield
    finally:
        file.write_bytes(before)


def test_all_records_of_a_finished_run_agree(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(root, ALIAS, False, False, None) == 0
    assert "11 stages verified, all records agree" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "stage"),
    [
        ("data/prepared/made_of.json", "prepare"),
        ("data/scores/r1/made_of.json", "score@r1"),
        ("models/dense/model.safetensors", "train"),
        ("models/cut/r1/made_of.json", "prune@r1"),
        ("models/rounds/r1/model.safetensors", "finetune@r1"),
        ("models/quantized/pruned/model.safetensors", "quantize@pruned"),
        ("models/dense/provenance.json", "train"),
    ],
)
def test_a_flipped_byte_is_found_in_its_file(
    root: Path, file: str, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with changed(root / file):
        assert show(root, ALIAS, False, False, None) == 1
    assert capsys.readouterr().out.startswith(f"first difference: {stage}: files: {file} is not what was made")


@pytest.mark.parametrize(
    ("file", "old", "new", "where", "record"),
    [
        ("dvc.lock", r"(path: data/prepared\n.*\n +md5: )\w{6}", r"\g<1>000000", "prepare", "dvc.lock"),
        ("dvc.lock", r"(?s)(  train:\n.*?learning_rate: )\S+", r"\g<1>0.5", "train", "dvc.lock"),
        ("params/pipeline.yaml", r"(?s)(\nscore:.*?rows: )\d+", r"\g<1>7", "score@r1", "params"),
    ],
)
def test_a_changed_word_is_found_in_its_record(
    root: Path, file: str, old: str, new: str, where: str, record: str
) -> None:
    with changed(root / file, old, new):
        first = next(iter(differences(root, str(root / "models/quantized/pruned"))))
    assert (first.where, first.record) == (where, record)


def test_a_forger_of_provenance_and_dvc_lock_meets_the_other_records(root: Path) -> None:
    """Both changed so that they agree: params, MLflow and the stages that read the out do not."""
    from flows.lineage.hashes import Hashes

    out, lock = "models/dense", root / "dvc.lock"
    before = Hashes(root).md5(out)
    with changed(root / out / "provenance.json", '"seed": 0', '"seed": 1'):
        after = Hashes(root).md5(out)
        text = lock.read_text()
        lock.write_text(text.replace(str(before), str(after)))
        found = differences(root, str(root / "models/quantized/pruned"))
        lock.write_text(text)
    named = {(one.where, one.record) for one in found}
    assert {("train", "provenance"), ("train", "MLflow"), ("score@r1", "MLflow")} <= named


@pytest.mark.parametrize(
    "tag", ["key", "out.models/dense", "code_hash", "parents", "stage", "mlflow.source.git.commit"]
)
def test_a_changed_tag_is_found(root: Path, tag: str) -> None:
    client = MlflowClient(f"sqlite:///{root / '.secateur' / 'mlflow.db'}")
    (run,) = [run for run in runs(root) if run.info.run_name == "train"]
    client.set_tag(run.info.run_id, tag, "0" * 40)
    found = differences(root)
    client.set_tag(run.info.run_id, tag, run.data.tags[tag])
    record = "git" if tag.endswith("commit") else "MLflow"
    assert [(one.where, one.record) for one in found] == [("train", record)]
    assert tag in found[0].what or "0" * 40 in found[0].what


def test_a_changed_registered_version_is_found(root: Path) -> None:
    client = MlflowClient(f"sqlite:///{root / '.secateur' / 'mlflow.db'}")
    version = client.get_model_version_by_alias("quickstart-quantized-pruned", "current")
    client.set_model_version_tag(version.name, version.version, "code_hash", "0")
    assert [one.what.split()[:2] for one in differences(root)] == [["tag", "code_hash"]]
    client.set_model_version_tag(version.name, version.version, "code_hash", version.tags["code_hash"])
    place = client.get_logged_model(version.source.removeprefix("models:/")).artifact_location.removeprefix("file://")
    with changed(Path(place) / "model.safetensors"):
        assert [one.what for one in differences(root)] == [
            "the registered model.safetensors is not that of models/quantized/pruned"
        ]


def test_code_that_no_commit_holds_is_found(workspace: Path) -> None:
    """A repository made anew, in which one package is another."""
    shutil.rmtree(workspace / ".git")
    (workspace / "tasks/train/code.py").write_text("# something else\n")
    commit_all(workspace)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=workspace, capture_output=True, text=True, check=True)
    client = MlflowClient(f"sqlite:///{workspace / '.secateur' / 'mlflow.db'}")
    for run in runs(workspace):
        client.set_tag(run.info.run_id, "mlflow.source.git.commit", head.stdout.strip())
    found = differences(workspace)
    assert [(one.where, one.record) for one in found] == [("train", "git")]
    assert found[0].what.startswith("tasks/train as it ran")


def test_a_copy_with_the_same_weights_and_another_config_is_found(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(root / "models/quantized/pruned", copy)
    assert differences(root, str(copy)) == []
    (copy / "made_of.json").write_text("{}")
    assert [str(one) for one in differences(root, str(copy))] == [
        f"{copy}: files: made_of.json is not that of models/quantized/pruned"
    ]


def test_a_missing_record_is_found(root: Path) -> None:
    client = MlflowClient(f"sqlite:///{root / '.secateur' / 'mlflow.db'}")
    (run,) = [run for run in runs(root) if run.info.run_name == "prune@r1"]
    client.delete_run(run.info.run_id)
    assert [str(one) for one in differences(root)] == [
        "prune@r1: MLflow: no record of this result; secateur run writes it"
    ]
    client.restore_run(run.info.run_id)


QUANTIZED = "models/quantized/pruned/dynamic"
FLIPS = {
    "raw data": ("rows.csv", None, "", "raw rows.csv", "files"),
    "prepared data": ("data/prepared/train.parquet", None, "", "prepare", "files"),
    "scores": ("data/scores/r1/scores.safetensors", None, "", "score@r1", "files"),
    "plan": ("models/cut/r2/plan.json", None, "", "prune@r2", "files"),
    "checkpoint": ("models/rounds/r2/model.safetensors", None, "", "finetune@r2", "files"),
    "ONNX": ("models/quantized/pruned/static/model.onnx", None, "", "quantize@pruned", "files"),
    "params": ("params/pipeline.yaml", r"(?s)(\ntrain:.*?epochs: )3", r"\g<1>2", "train", "params"),
    "dvc.lock": ("dvc.lock", r"(?s)(  finetune@r2:.*?outs:.*?md5: )\w", r"\g<1>x", "finetune@r2", "dvc.lock"),
}
"""The file, what is replaced in it (None: its middle byte is flipped) and by what; where, and which record is named."""


@pytest.mark.parametrize("what", FLIPS)
def test_one_flipped_byte_of_a_real_pipeline_is_named(unbroken: Path, what: str) -> None:
    file, old, new, where, record = FLIPS[what]
    with changed(unbroken / file, old, new):
        first = differences(unbroken, str(unbroken / QUANTIZED))[0]
    assert (first.where, first.record) == (where, record)


def test_one_flipped_character_of_a_tag_of_a_real_pipeline_is_named(unbroken: Path) -> None:
    client = MlflowClient(f"sqlite:///{unbroken / '.secateur' / 'mlflow.db'}")
    (run,) = [run for run in runs(unbroken) if run.info.run_name == "finetune@r2"]
    tag = "out.models/rounds/r2"
    before = run.data.tags[tag]
    client.set_tag(run.info.run_id, tag, before[:-5] + chr(ord(before[-5]) ^ 1) + before[-4:])
    first = differences(unbroken, str(unbroken / QUANTIZED))[0]
    client.set_tag(run.info.run_id, tag, before)
    assert (first.where, first.record) == ("finetune@r2", "MLflow")
    assert tag in first.what
    assert differences(unbroken, str(unbroken / QUANTIZED)) == []


def test_a_model_that_says_something_else_than_noted_is_found(unbroken: Path) -> None:
    """Evaluated again it says the same, and not what a changed note says."""
    from flows.lineage.evaluated import evaluated

    with found(unbroken, str(unbroken / "models/quantized/pruned/dynamic")) as it:
        assert list(evaluated(it)) == []
    quality = unbroken / "data/evaluate/test/quality.json"
    note = changed(quality, r'(?s)("dense": \{.*?"quality": )[\d.]+', r"\g<1>0.5")
    with note, found(unbroken, str(unbroken / "models/dense")) as it:
        named = [what for _, _, what in evaluated(it)]
    assert [what.rpartition(" ")[2] for what in named] == ["0.5"]
