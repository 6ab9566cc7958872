"""From prepared data to a student: of the dense model's layers, or of another architecture with the same tokenizer."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DistilBertConfig, DistilBertModel

from tasks.core.errors import UserError
from tasks.distill import distill
from tasks.distill.student import other
from tasks.finetune import finetune
from tasks.modeling.checkpoint import load, save
from tasks.modeling.shrink import shrink
from tasks.prepare import prepare
from tasks.recipe.load import resolve
from tasks.text.registry import read_task
from tasks.training.train import TEACHER
from tests.flows.tiny import make_model, make_rows

FEW = ["epochs=0.2", "precision=fp32", "batch_size=16", "hidden=1.0", "attention=1.0"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Prepared data, a dense model and its logits."""
    root = tmp_path_factory.mktemp("run")
    make_model(root / "model")
    make_rows(root / "rows.csv")
    recipe = resolve(None, ["data.source=rows.csv", "data.label=label", "data.labels=null", "data.group=null",
                            "data.unescape=false", "model.source=model", "task.max_length=16"])  # fmt: skip
    (root / "prepared").mkdir()
    prepare(recipe.data, recipe.task, recipe.model, 0, root, root / "prepared")
    save(load(root / "model", head=read_task(root / "prepared")), root / "dense")
    rows = json.loads((root / "prepared" / "data.json").read_text())["splits"]["train"]["rows"]
    (root / "teacher").mkdir()
    save_file({"train": torch.randn(rows, 2)}, root / "teacher" / TEACHER)
    return root


def settings(section, *more):
    return getattr(resolve(None, [f"{section}.{setting}" for setting in (*FEW, *more)]), section)


def make_other(run: Path, directory: Path, **changes) -> Path:
    torch.manual_seed(0)
    tokens = len(AutoTokenizer.from_pretrained(run / "model"))
    sizes = {
        "vocab_size": tokens,
        "dim": 16,
        "n_layers": 2,
        "n_heads": 2,
        "hidden_dim": 24,
        "max_position_embeddings": 32,
    }
    DistilBertModel(DistilBertConfig(**{**sizes, **changes})).save_pretrained(directory)
    AutoTokenizer.from_pretrained(run / "model").save_pretrained(directory)
    return directory


def train_student(run, tmp_path, source, *more):
    (tmp_path / "out").mkdir()
    where = {"metric": "accuracy", "seed": 0, "scratch": tmp_path / "scratch", "out": tmp_path / "out"}
    distill(run / "dense", source, run / "prepared", run / "teacher", settings("distill", *more), **where)
    return AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", trust_remote_code=False)


def test_layers_of_the_dense_model_make_an_ordinary_model(run, tmp_path):
    student = train_student(run, tmp_path, None, "layers=[0, 2]", "layer_map=[[0, 0], [1, 2]]")
    assert type(student).__name__ == "BertForSequenceClassification"
    assert student.config.num_hidden_layers == 2
    assert not (tmp_path / "out" / "modeling_pruned.py").exists()
    assert set(json.loads((tmp_path / "out" / "training.json").read_text())) == {"curve", "validation", "best_epoch"}


def test_another_architecture_learns_from_layers_of_another_width(run, tmp_path):
    source = make_other(run, tmp_path / "other")
    student = train_student(run, tmp_path, source, "layers=null", "layer_map=learned")
    assert type(student).__name__ == "DistilBertForSequenceClassification"
    assert student.config.n_layers == 2
    assert student.num_labels == 2
    start, result = (dict(load(path).named_parameters()) for path in (tmp_path / "scratch/start", tmp_path / "out"))
    assert start.keys() == result.keys()
    assert any((start[name] != result[name]).any() for name in start)
    curve = json.loads((tmp_path / "out" / "training.json").read_text())["layers"]
    assert set(curve[-1]) == {"step", "epoch", "layer 0", "layer 1"}


def test_another_architecture_with_some_of_its_layers(run, tmp_path):
    source = make_other(run, tmp_path / "other", n_layers=3)
    assert train_student(run, tmp_path, source, "layers=[1]").config.n_layers == 1


def test_another_tokenizer_is_refused(run, tmp_path):
    source = make_other(run, tmp_path / "other")
    written = json.loads((source / "tokenizer.json").read_text())
    words = written["model"]["vocab"]
    words["bed"] = words.pop("bad")
    (source / "tokenizer.json").write_text(json.dumps(written))
    with pytest.raises(UserError, match=r"distill\.source \(other\): its tokenizer .* 'bad' is not the same in both"):
        other(source, run / "prepared")


def test_too_few_embeddings_or_positions_are_refused(run, tmp_path):
    with pytest.raises(UserError, match="vocab_size 100"):
        other(make_other(run, tmp_path / "a", vocab_size=100), run / "prepared")
    with pytest.raises(UserError, match=r"takes 8 tokens; task\.max_length is 16"):
        other(make_other(run, tmp_path / "b", max_position_embeddings=8), run / "prepared")


def test_recovery_of_a_model_that_lost_a_layer_and_heads(run, tmp_path):
    dense = load(run / "dense")
    cut = shrink(dense, {"layer": [[0], [], [0]], "head": [[0, 2], [0], [1]]})
    save(cut, tmp_path / "cut")
    (tmp_path / "cut" / "plan.json").write_text("{}")
    (tmp_path / "out").mkdir()
    finetune(
        tmp_path / "cut", run / "dense", run / "prepared", run / "teacher", settings("finetune"),
        "accuracy", 0, tmp_path / "scratch", tmp_path / "out",
    )  # fmt: skip
    result = load(tmp_path / "out")
    assert result.config.pruned["layers"] == [0, 2]
    assert dict(result.named_parameters()).keys() == dict(cut.named_parameters()).keys()
    assert any((v != dict(cut.named_parameters())[k]).any() for k, v in result.named_parameters())
