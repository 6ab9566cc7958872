"""Multi-label classification through the stages: what a tiny BERT learns is what the evaluation and predict say."""

import ast
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import f1_score
from test_qa_pipeline import write_model
from transformers import AutoModelForSequenceClassification

from flows.predict import predict
from tasks.core.files import read_json
from tasks.evaluate import Entry, evaluate_models
from tasks.modeling.inference import forward, open_model
from tasks.prepare import prepare
from tasks.quantize import quantize
from tasks.recipe.load import resolve
from tasks.report.card import loading
from tasks.text.data import read_split
from tasks.train import train_dense
from tests.tasks.report.card_code import run

LETTERS = "xyz"
SETTINGS = [
    "task={type: multilabel, metric: micro_f1, max_length: 16}",
    "data={source: rows.jsonl, text: text, label: tags, labels: null, group: null, validation: 0.2, test: 0.2}",
    "model.source=model",
    "train={epochs: 12, learning_rate: 3e-3, batch_size: 16, precision: fp32, freeze_embeddings: false}",
    "evaluate={latency_rows: 2, throughput_batches: 1, repeats: 1, bootstrap: 50}",
    "quantize.methods=[fp32]",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("multilabel")
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcdxyz"), 8)) for _ in range(200)]
    lines = [json.dumps({"text": text, "tags": [c for c in LETTERS if c in text]}) for text in texts]
    (root / "rows.jsonl").write_text("\n".join(lines))
    write_model(root / "model", texts)
    recipe = resolve(None, SETTINGS)
    for name in ("prepared", "dense", "teacher", "quantized", "test", "times"):
        (root / name).mkdir()
    prepare(recipe.data, recipe.task, recipe.model, 0, root, root / "prepared")
    train_dense(
        root / "model", root / "prepared", recipe.train, "micro_f1", 0, root / "s", root / "dense", root / "teacher"
    )
    quantize(root / "dense", root / "prepared", recipe.quantize, recipe.task.metric, 0, root / "quantized")
    entries = {
        name: Entry("x", root / path, root / "dense") for name, path in (("dense", "dense"), ("q", "quantized/fp32"))
    }
    evaluate_models(
        entries, None, root / "prepared", recipe.evaluate, "micro_f1", 0, root, root / "test", root / "times"
    )
    return root


def test_it_learns_and_figures_are_those_of_the_predictions(trained):
    quality = read_json(trained / "test/quality.json")["models"]
    table = pq.read_table(trained / "test/predictions.parquet").to_pylist()
    texts = pq.read_table(trained / "prepared/test.parquet")["text"].to_pylist()
    assert [[LETTERS[i] for i in row["labels"]] for row in table] == [
        [c for c in LETTERS if c in text] for text in texts
    ]

    def indicator(name):
        return np.array([[i in row[name] for i in range(3)] for row in table])

    for name, facts in quality.items():
        for average in ("micro", "macro"):
            expected = f1_score(indicator("labels"), indicator(name), average=average, zero_division=0)
            assert facts["metrics"][f"{average}_f1"] == pytest.approx(expected)
    assert quality["dense"]["quality"] == quality["dense"]["metrics"]["micro_f1"] > 0.75


def test_validation_is_judged_alike(trained):
    quality = read_json(trained / "test/quality.json")["models"]
    split = read_split(trained / "prepared", "validation")
    for name, directory in (("dense", "dense"), ("q", "quantized/fp32")):
        run = open_model(trained / directory, 1)
        said = np.concatenate([run(split.batch([row])) for row in range(len(split))]) > 0
        assert quality[name]["validation_quality"] == pytest.approx(f1_score(split.labels, said, average="micro"))
        assert quality[name]["validation_drop"] == pytest.approx(
            quality["dense"]["validation_quality"] - quality[name]["validation_quality"]
        )
    assert quality["dense"]["validation_quality"] != quality["dense"]["quality"]


def test_any_program_knows_what_the_model_is(trained, capsys):
    model = AutoModelForSequenceClassification.from_pretrained(trained / "dense")
    assert model.config.problem_type == "multi_label_classification"
    assert list(model.config.id2label.values()) == list(LETTERS)
    batch = read_split(trained / "prepared", "test").batch(range(6))
    np.testing.assert_allclose(open_model(trained / "quantized/fp32", 1)(batch), forward(model)(batch), atol=1e-4)
    shares = 1 / (1 + np.exp(-forward(model)(read_split(trained / "prepared", "test").batch([0]))[0]))
    text = pq.read_table(trained / "prepared/test.parquet")["text"].to_pylist()[0]
    predict(str(trained / "dense"), [text])
    named = ", ".join(f"{c} {share:.4f}" for c, share in zip(LETTERS, shares, strict=True) if share > 0.5)
    assert capsys.readouterr().out == f"{named or 'none'}\t{text}\n"


def test_the_code_of_its_card(trained, tmp_path):
    """In PyTorch and in ONNX Runtime, where Secateur cannot be imported."""
    directory = tmp_path / "model"
    shutil.copytree(trained / "dense", directory)
    shutil.copy(trained / "quantized/fp32/model.onnx", directory)
    texts = pq.read_table(trained / "prepared/test.parquet")["text"].to_pylist()[:2]
    said = run(
        loading(resolve(None, SETTINGS), graph=True), directory, **{"A first text.": texts[0], "Another one.": texts[1]}
    )
    assert said[0] == said[1]
    for text, line in zip(texts, said[0], strict=True):
        batch = read_split(trained / "prepared", "test").batch([texts.index(text)])
        shares = 1 / (1 + np.exp(-open_model(trained / "dense", 1)(batch)[0]))
        expected = {c: float(share) for c, share in zip(LETTERS, shares, strict=True) if share > 0.5}
        assert ast.literal_eval(line) == pytest.approx(expected, abs=2e-4)
