"""Question answering through the stages: a tiny BERT on a few rows, and gold answers through the windows of SQuAD."""

import gzip
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoModelForQuestionAnswering, BertConfig, BertModel, BertTokenizerFast
from transformers.data.metrics.squad_metrics import compute_exact, compute_f1

from flows.predict import predict
from tasks.core.errors import UserError
from tasks.core.files import read_json
from tasks.evaluate import Entry, evaluate_models, evaluate_round
from tasks.finetune import finetune
from tasks.modeling.checkpoint import load
from tasks.modeling.inference import forward, logits, open_model
from tasks.prepare import prepare
from tasks.prune import prune
from tasks.prune.unused import with_vocabulary
from tasks.quantize import quantize
from tasks.recipe.goal import Goal
from tasks.recipe.load import resolve
from tasks.report.card import loading
from tasks.score import score_units
from tasks.text.data import read_split
from tasks.text.qa import THRESHOLD
from tasks.text.registry import read_task
from tasks.train import train_dense
from tests.tasks.report.card_code import run

TOWNS = ("Athens", "Berlin", "Cairo", "Dublin", "Essen", "Florence", "Geneva", "Havana", "Izmir", "Jakarta")
UNUSED = ("metro", "stone")
"""Words of the tokenizer that no row has."""
SETTINGS = [
    "task={type: qa, metric: f1, max_length: 64, doc_stride: 16, max_answer: 12}",
    "data={source: rows.jsonl, text: question, text_pair: context, label: answers, group: title}",
    "data={labels: null, unescape: false, validation: 0.25, test: 0.25}",
    "model.source=model",
    "train={epochs: 15, learning_rate: 3e-3, batch_size: 8, precision: fp32, freeze_embeddings: false}",
    "finetune={epochs: 1, batch_size: 8, precision: fp32}",
    "score={rows: 16, batch_size: 8}",
    "prune={rounds: [0.3], align: 4}",
    "evaluate={latency_rows: 2, throughput_batches: 1, repeats: 1, bootstrap: 50}",
    "quantize.methods=[fp32, dynamic]",
]


def example(number, title, *, answered=True):
    town, year = TOWNS[number % len(TOWNS)], 1900 + number
    context = f"  The society of article {title} met in {town} in {year}.\nIt had been founded by Mr. O'Neill & sons."
    context += " Later meetings were held elsewhere, and few of the members came." * (number % 3)
    where = {"text": [town, f"in {town}"], "answer_start": [context.index(town), context.index(f"in {town}")]}
    answers = where if answered else {"text": [], "answer_start": []}
    question = f"Where did society {number} meet in {year}?"
    return {"id": f"q{number}", "title": title, "context": context, "question": question, "answers": answers}


def rows(count=60, *, unanswerable=False):
    return [example(i, f"T{i // 3}", answered=not unanswerable or i % 4 > 0) for i in range(count)]


def write_rows(path, found):
    text = "".join(json.dumps(row) + "\n" for row in found)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def write_model(directory, texts, longest=64):
    """A random BERT without a head; each of its tokens is one character."""
    characters = sorted({c for text in texts for c in normalizers.BertNormalizer().normalize_str(text)} - {" "})
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *UNUSED, *characters, *(f"##{c}" for c in characters)]
    model = models.WordPiece({t: i for i, t in enumerate(tokens)}, unk_token="[UNK]", max_input_chars_per_word=500)  # noqa: S106
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    BertTokenizerFast(tokenizer_object=tokenizer).save_pretrained(directory)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    BertModel(BertConfig(vocab_size=len(tokens), max_position_embeddings=longest, **sizes)).save_pretrained(directory)


def prepared_in(root, found, *settings):
    root.mkdir(exist_ok=True)
    write_rows(root / "rows.jsonl", found)
    write_model(root / "model", [row[key] for row in found for key in ("question", "context")])
    recipe = resolve(None, [*SETTINGS, *settings])
    (root / "prepared").mkdir()
    prepare(recipe.data, recipe.task, recipe.model, 0, root, root / "prepared")
    return recipe, root / "prepared"


@pytest.fixture(scope="module", params=[False, True], ids=["answered", "no answer"])
def trained(request, tmp_path_factory):
    """Prepared data, a dense model, scores and a pruned model."""
    root = tmp_path_factory.mktemp("qa")
    recipe, prepared = prepared_in(
        root, rows(unanswerable=request.param), f"task.no_answer={str(request.param).lower()}"
    )
    for name in ("dense", "teacher", "scores", "cut", "r1", "quantized"):
        (root / name).mkdir()
    dense, teacher, scores, cut = root / "dense", root / "teacher", root / "scores", root / "cut"
    train_dense(root / "model", prepared, recipe.train, "f1", 0, root / "scratch1", dense, teacher)
    score_units(dense, prepared, recipe.score, recipe.prune.kinds, "f1", 0, root / "scratch3", scores)
    prune(dense, scores, prepared, teacher, 0, recipe.score.criterion, recipe.prune, 0, cut)
    finetune(cut, root / "dense", prepared, teacher, recipe.finetune, "f1", 0, root / "scratch2", root / "r1")
    quantize(root / "r1", prepared, recipe.quantize, recipe.task.metric, 0, root / "quantized")
    return root, recipe


def test_without_the_words_that_no_row_has_it_says_the_same(trained, tmp_path):
    root, recipe = trained
    settings, goal = recipe.prune, Goal(vocabulary=True)
    dense = load(root / "dense")
    model, facts = with_vocabulary(dense, root / "dense", root / "prepared", goal, settings, tmp_path)
    assert facts["vocabulary"]["before"] - facts["vocabulary"]["after"] == len(UNUSED)
    for name in ("train", "validation", "test"):
        before, after = read_split(root / "prepared", name), read_split(root / "prepared", name, tmp_path)
        assert any((a != b).any() for a, b in zip(before.input_ids, after.input_ids, strict=True))
        np.testing.assert_array_equal(logits(forward(dense), before, 8), logits(forward(model), after, 8))


def test_windows_hold_the_answers(trained):
    root, recipe = trained
    task, facts = read_task(root / "prepared"), read_json(root / "prepared/data.json")
    titles = {}
    for name in ("train", "validation", "test"):
        split = read_split(root / "prepared", name)
        windows = split.windows
        examples = pq.read_table(root / f"prepared/{name}.examples.parquet").to_pylist()
        assert facts["splits"][name]["rows"] == len(examples) < facts["splits"][name]["windows"] == len(split)
        assert facts["splits"][name]["truncated"] == facts["splits"][name]["outside"] == 0
        assert split.lengths.max() <= 64
        titles[name] = {row["context"].split(" met")[0] for row in examples}
        found = set()
        for row, (first, last) in enumerate(split.labels):
            answers, context = windows.answers[windows.example[row]], windows.contexts[windows.example[row]]
            if (first, last) == (windows.null[row],) * 2:
                continue
            assert context[windows.offsets[row][first, 0] : windows.offsets[row][last, 1]] == answers[0]
            found.add(int(windows.example[row]))
        assert found == {i for i, answers in enumerate(windows.answers) if answers}
    assert not titles["train"] & titles["test"]
    assert not titles["train"] & titles["validation"]
    assert task.no_answer == recipe.task.no_answer


def test_pruned_and_quantized_say_the_same(trained):
    root, recipe = trained
    split = read_split(root / "prepared", "test")
    ours = open_model(root / "r1", 1)
    official = AutoModelForQuestionAnswering.from_pretrained(root / "r1", trust_remote_code=True)
    batch = split.batch(range(5))
    assert ours(batch).shape == (5, 2, batch["input_ids"].shape[1])
    np.testing.assert_allclose(forward(official)(batch), ours(batch), atol=1e-6)
    shown = np.repeat(batch["attention_mask"][:, None] == 1, 2, axis=1)  # graphs compute no padding
    meant, graph, int8 = (run(batch)[shown] for run in (ours, *(open_model(root / f"quantized/{name}", 1)
                                                                for name in ("fp32", "dynamic"))))  # fmt: skip
    np.testing.assert_allclose(graph, meant, atol=1e-4)
    assert np.abs(int8 - meant).mean() < 0.1
    everything = logits(ours, split, 4)
    for row in range(len(split)):
        length = len(split.input_ids[row])
        np.testing.assert_allclose(everything[row, :, :length], ours(split.batch([row]))[0], atol=1e-5)
    config = read_json(root / "quantized/fp32/config.json")
    assert (THRESHOLD in config) == recipe.task.no_answer


def test_evaluation_is_of_examples(trained):
    root, recipe = trained
    for name in ("round", "times", "test"):
        (root / name).mkdir()
    budget = recipe.budget.model_copy(update={"speedup_b1": None, "speedup_b32": None})
    evaluate_round(
        "r1", root / "r1", root / "dense", root / "teacher", root / "prepared", budget, recipe.evaluate, "f1",
        root / "round", root / "times",
    )  # fmt: skip
    assert read_json(root / "round/verdict.json")["flops_share"] < 1
    entries = {
        "dense": Entry("train", root / "dense", root / "dense"),
        "r1": Entry("finetune@r1", root / "r1", root / "r1"),
        "pruned-dynamic": Entry("quantize@pruned", root / "quantized/dynamic", root / "r1"),
    }
    evaluate_models(entries, "r1", root / "prepared", recipe.evaluate, "f1", 0, root, root / "test", root / "times")
    quality = read_json(root / "test/quality.json")
    table = pq.read_table(root / "test/predictions.parquet").to_pylist()
    assert quality["rows"] == len(table) == len(read_split(root / "prepared", "test").windows.contexts)
    for name, facts in quality["models"].items():
        golds = [row["answers"] or [""] for row in table]
        best = [
            [max(rule(gold, row[name]) for gold in gold_texts) for row, gold_texts in zip(table, golds, strict=True)]
            for rule in (compute_f1, compute_exact)
        ]
        assert facts["metrics"] == pytest.approx({"f1": np.mean(best[0]), "exact_match": np.mean(best[1])})
        assert facts["quality"] == facts["metrics"]["f1"]
        assert facts["quality_low"] <= facts["quality"] <= facts["quality_high"]
    assert recipe.task.no_answer or all(row["dense"] for row in table)


def test_it_learns(trained):
    root, _ = trained
    history = read_json(root / "dense/training.json")
    assert history["curve"][-1]["loss"] < 0.5 * history["curve"][0]["loss"]
    assert max(entry["quality"] for entry in history["validation"]) > 0.5


def test_predict_answers_from_the_context(trained, capsys):
    root, recipe = trained
    found = [{"question": "Where did they meet?", "context": row["context"]} for row in rows(3)]
    predict(str(root / "quantized/dynamic"), [json.dumps(row) for row in found])
    lines = capsys.readouterr().out.split("\tWhere did they meet?\n")[:-1]
    for row, line in zip(found, lines, strict=True):
        answer, share = line.rsplit("\t", 1)
        assert answer.replace("\\n", "\n") in row["context"]
        assert answer or recipe.task.no_answer
        assert 0 < float(share) <= 1
    with pytest.raises(UserError, match=r"text 1: this model answers questions; give \{"):
        predict(str(root / "dense"), ["Where?"])


def test_the_code_of_its_card(trained, tmp_path, capsys):
    """In PyTorch and in ONNX Runtime, where Secateur cannot be imported, of contexts of one window."""
    root, recipe = trained
    directory = tmp_path / "model"
    shutil.copytree(root / "r1", directory)
    shutil.copy(root / "quantized/fp32/model.onnx", directory)
    for question, context in (("Where?", "They met in Berlin in 1901."), ("Who met?", "Mr. O'Neill in Izmir.")):
        replaced = {"Where do they meet?": question, "They meet at the mill, as they did last year.": context}
        said = run(loading(recipe, graph=True), directory, **replaced)
        predict(str(root / "r1"), [json.dumps({"question": question, "context": context})])
        assert ["\n".join(lines) for lines in said] == [capsys.readouterr().out.split("\t")[0]] * 2


def test_the_nested_format_is_the_same(tmp_path):
    flat = rows(40, unanswerable=True)
    _, first = prepared_in(tmp_path / "flat", flat, "task.no_answer=true")
    articles = []
    for title in dict.fromkeys(row["title"] for row in flat):
        paragraphs = []
        for row in (row for row in flat if row["title"] == title):
            pairs = zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)
            answers = [{"text": text, "answer_start": start} for text, start in pairs]
            asked = {key: row[key] for key in ("id", "question")}
            paragraphs.append(
                {"context": row["context"], "qas": [{**asked, "answers": answers, "is_impossible": not answers}]}
            )
        articles.append({"title": title, "paragraphs": paragraphs})
    (tmp_path / "nested").mkdir()
    (tmp_path / "nested/dev.json").write_text(json.dumps({"version": "v2.0", "data": articles}))
    settings = ["task.no_answer=true", "data.source=dev.json"]
    _, second = prepared_in(tmp_path / "nested", flat, *settings)
    for name in ("train", "validation", "test"):
        for file in (f"{name}.parquet", f"{name}.examples.parquet"):
            assert (first / file).read_bytes() == (second / file).read_bytes()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"answers": {"text": ["Rome"], "answer_start": [3]}}, r"line 2: the answer 'Rome' does not stand at 3.*'"),
        ({"answers": {"text": ["x"], "answer_start": []}}, r"line 2: answers .*two lists of the same length"),
        ({"answers": "Rome"}, r"line 2: answers 'Rome'; they must be text and answer_start"),
        ({"answers": {"text": [], "answer_start": []}}, r"1 of 60 questions have no answer.*task\.no_answer=true"),
    ],
)
def test_mistakes_in_answers(tmp_path, change, says):
    found = rows()
    found[1] = {**found[1], **change}
    with pytest.raises(UserError, match=says):
        prepared_in(tmp_path, found)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["task.type=qa"], r"task\.metric: \"accuracy\"; must be one of f1, exact_match"),
        (["task={type: qa, metric: f1, doc_stride: 8}"], r"data\.labels is set; qa has no classes"),
        ([*SETTINGS, "data.text_pair=null"], r"data\.text_pair is not set; for qa it is the column of the context"),
        ([*SETTINGS, "data.unescape=true"], r"data\.unescape is true"),
        ([*SETTINGS, "train.class_weights=true"], r"train\.class_weights is true; only classification"),
        ([*SETTINGS, "task.doc_stride=40"], r"doc_stride \(40\) must be at most half of max_length \(64\)"),
        (["task.type=regression", "task.metric=micro_f1"], r"^1 mistake"),
    ],
)
def test_mistakes_in_the_recipe(settings, says):
    with pytest.raises(UserError, match=says):
        resolve(None, settings)


def test_windows_too_short_for_a_question(tmp_path):
    with pytest.raises(UserError, match=r"task\.max_length: 8 leaves no room for a question"):
        prepared_in(tmp_path, rows(), "task.max_length=8", "task.doc_stride=4")


def test_a_long_question_is_cut_off(tmp_path):
    found = rows()
    found[0]["question"] = "Where " * 40
    _, prepared = prepared_in(tmp_path, found)
    facts = read_json(prepared / "data.json")["splits"]
    assert sum(split["truncated"] for split in facts.values()) == 1
    assert sum(split["outside"] for split in facts.values()) == 0


@pytest.mark.skipif("SECATEUR_DATA" not in os.environ, reason="needs the data of SECATEUR_DATA")
def test_gold_answers_of_squad_come_back_through_the_windows(tmp_path):
    """Logits that say what the labels say give EM = F1 = 1 on real contexts, most of several windows."""
    source = Path(os.environ["SECATEUR_DATA"]) / "squad" / "validation.jsonl.gz"
    with gzip.open(source, "rt", encoding="utf-8") as file:
        found = [json.loads(line) for line in file][::16]
    write_rows(tmp_path / "rows.jsonl.gz", found)
    write_model(tmp_path / "model", [row[key] for row in found for key in ("question", "context")], 384)
    changes = ["task.max_length=384", "task.doc_stride=128", "task.max_answer=300", "data.source=rows.jsonl.gz"]
    recipe = resolve(None, [*SETTINGS, *changes])
    (tmp_path / "prepared").mkdir()
    prepare(recipe.data, recipe.task, recipe.model, 0, tmp_path, tmp_path / "prepared")
    task, examples, cells = read_task(tmp_path / "prepared"), 0, []
    for name in ("train", "validation", "test"):
        split = read_split(tmp_path / "prepared", name)
        said = np.zeros((len(split), 2, split.lengths.max()), np.float32)
        for row, ends in enumerate(split.labels):
            said[row, [0, 1], ends] = 10
        cells.append(task.cells(task.predict(said, split, {}), split))
        examples += len(split.windows.contexts)
        assert len(split) > 1.5 * len(split.windows.contexts)
    assert examples == len(found)
    assert np.concatenate(cells).mean(0).tolist() == [1.0, 1.0, 1.0]
