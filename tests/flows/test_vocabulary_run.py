"""The vocabulary goes in a round: every stage after it reads the same data in other numbers, with its own tokenizer."""

import random
import string

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertModel, BertTokenizerFast

from flows.predict import predict
from tasks.core.files import read_json
from tasks.evaluate import Entry, evaluate_models, evaluate_round
from tasks.finetune import finetune
from tasks.modeling.checkpoint import load
from tasks.modeling.inference import forward, logits, open_model
from tasks.modeling.size import flops, parameters
from tasks.prepare import prepare
from tasks.prune import prune
from tasks.prune.unused import with_vocabulary
from tasks.quantize import quantize
from tasks.recipe.load import resolve
from tasks.score import score_units
from tasks.text.data import read_split
from tasks.text.registry import read_task
from tasks.text.vocabulary import read_vocabulary
from tasks.train import train_dense
from tests.flows.tiny import BAD, GOOD, PLAIN, make_rows

SPLITS = ("train", "validation", "test")
NUMBERS = 700
"""Words of the tokenizer, of which the rows have 300."""
UNSEEN = ["a gorgeous quixotic film 650", "the plot is 555 awful", "zyx"]
BASE = [
    "data={source: rows.csv, label: label, labels: null, group: null, unescape: false}",
    "model.source=model",
    "task.max_length=16",
    "train={epochs: 5, learning_rate: 2e-3, batch_size: 16, precision: fp32, freeze_embeddings: false}",
    "finetune={epochs: 2, learning_rate: 1e-3, batch_size: 16, precision: fp32, freeze_embeddings: false}",
    "score={rows: 64, batch_size: 16}",
    "quantize={methods: [fp32, dynamic, static, exits], calibration_rows: 32}",
    "evaluate={latency_rows: 2, throughput_batches: 1, repeats: 1, bootstrap: 50}",
    "budget={max_drop: 1.0, speedup_b1: 0.001, speedup_b32: null, max_flops: null, max_parameters: 0.9}",
]


def make_model(directory):
    """As `tests.flows.tiny`, with an alphabet, without which WordPiece may lose nothing."""
    letters = string.ascii_lowercase + string.digits
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    words = list(dict.fromkeys([*words, *map(str, range(NUMBERS, 0, -1)), "gorgeous", *GOOD, *BAD, *PLAIN]))
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    BertTokenizerFast(tokenizer_object=tokenizer).save_pretrained(directory)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=32, **sizes)).save_pretrained(directory)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Prepared data and a dense model, whose embeddings are a large part of it."""
    root = tmp_path_factory.mktemp("root")
    make_model(root / "model")
    make_rows(root / "rows.csv")
    recipe = resolve(None, BASE)
    for name in ("prepared", "dense", "teacher", "scores"):
        (root / name).mkdir()
    prepare(recipe.data, recipe.task, recipe.model, 0, root, root / "prepared")
    train_dense(
        root / "model", root / "prepared", recipe.train, "accuracy", 0, root / "s", root / "dense", root / "teacher"
    )
    score_units(root / "dense", root / "prepared", recipe.score, ["head"], "accuracy", 0, root / "s1", root / "scores")
    return root


def pruned(root, out, *settings, model="dense", scores="scores", number=0, early=None):
    """A round's cut."""
    recipe = resolve(None, [*BASE, *(f"prune.{setting}" for setting in settings)])
    out.mkdir()
    prune(
        root / model, root / scores, root / "prepared", root / "teacher", number, recipe.score.criterion, recipe.prune,
        0, out, early,
    )  # fmt: skip
    return read_json(out / "plan.json")


@pytest.fixture(scope="module")
def alone(root):
    """Only the vocabulary is pruned."""
    pruned(root, root / "alone", "kinds=[vocabulary]", "rounds=[{vocabulary: true}]")
    return root / "alone"


@pytest.fixture(scope="module")
def finished(root):
    """Two rounds of heads, neurons and the vocabulary through every later stage."""
    settings = ("kinds=[head, neuron, vocabulary]", "rounds=[0.25, 0.5]", "align=4", "rows=64")
    recipe = resolve(None, [*BASE, *(f"prune.{setting}" for setting in settings)])
    prepared, teacher, dense = root / "prepared", root / "teacher", root / "dense"
    before = "dense"
    for number, name in enumerate(("r1", "r2")):
        for made in ("scores", "rounds", "verdict", "times"):
            (root / made / name).mkdir(parents=True)
        score_units(
            root / before, prepared, recipe.score, ["head"], "accuracy", 0, root / f"s-{name}", root / "scores" / name
        )
        pruned(root, root / f"cut-{name}", *settings, model=before, scores=f"scores/{name}", number=number)
        finetune(
            root / f"cut-{name}", dense, prepared, teacher,
            recipe.finetune.model_copy(update={"hidden": 1.0, "attention": 1.0}),
            "accuracy", 0, root / f"scratch-{name}", root / "rounds" / name,
        )  # fmt: skip
        before = f"rounds/{name}"
        evaluate_round(
            name, root / before, dense, teacher, prepared, recipe.budget, recipe.evaluate, "accuracy",
            root / "verdict" / name, root / "times" / name,
        )  # fmt: skip
    (root / "quantized").mkdir()
    quantize(root / "rounds/r2", prepared, recipe.quantize, recipe.task.metric, 0, root / "quantized")
    entries = {"dense": Entry("train", dense, dense)}
    entries |= {name: Entry("finetune", root / "rounds" / name, root / "rounds" / name) for name in ("r1", "r2")}
    for method in recipe.quantize.methods:
        entries[f"pruned-{method}"] = Entry("quantize", root / "quantized" / method, root / "rounds/r2")
    (root / "test").mkdir()
    evaluate_models(entries, "r2", prepared, recipe.evaluate, "accuracy", 0, root, root / "test", root / "times")
    return root


def test_the_model_says_what_the_dense_one_says_of_all_data(root, alone):
    for name in SPLITS:
        before, after = read_split(root / "prepared", name), read_split(root / "prepared", name, alone)
        assert any((a != b).any() for a, b in zip(before.input_ids, after.input_ids, strict=True))
        np.testing.assert_array_equal(
            logits(forward(load(root / "dense")), before, 16), logits(forward(load(alone)), after, 16)
        )


def test_rows_are_those_of_its_own_tokenizer(root, alone):
    tokenizer = AutoTokenizer.from_pretrained(alone)
    for name in SPLITS:
        rows = read_split(root / "prepared", name, alone)
        texts = pq.read_table(root / "prepared" / f"{name}.parquet")["text"].to_pylist()
        assert [row.tolist() for row in rows.input_ids] == tokenizer(texts)["input_ids"]
        assert rows.pad == tokenizer.pad_token_id


def test_sizes_and_plan(root, alone):
    dense, model = load(root / "dense"), load(alone)
    plan, vocabulary = read_json(alone / "plan.json"), read_vocabulary(alone)
    texts = sum(len(read_split(root / "prepared", name)) for name in SPLITS)
    assert plan["vocabulary"] == {
        "before": dense.config.vocab_size,
        "after": model.config.vocab_size,
        "proof": {"exact": texts, "changed": 0},
    }
    assert len(vocabulary.kept) == model.config.vocab_size < dense.config.vocab_size - 300
    assert parameters(dense) - parameters(model) == 32 * (dense.config.vocab_size - model.config.vocab_size)
    assert flops(model, 10) == flops(dense, 10)
    assert plan["groups"] == []


def test_other_texts_are_read_in_pieces(alone, root, capsys, monkeypatch):
    monkeypatch.chdir(root)
    predict(str(alone), UNSEEN)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[2] for line in lines] == UNSEEN
    before, after = AutoTokenizer.from_pretrained(root / "dense"), AutoTokenizer.from_pretrained(alone)
    assert "gorgeous" in before.tokenize(UNSEEN[0])
    assert after.tokenize("gorgeous") == ["g", *(f"##{letter}" for letter in "orgeous")]


def test_plain_transformers_loads_it(root, alone):
    test = pq.read_table(root / "prepared/test.parquet")["text"].to_pylist()
    tokenizer, dense = AutoTokenizer.from_pretrained(alone), AutoTokenizer.from_pretrained(root / "dense")
    official = AutoModelForSequenceClassification.from_pretrained(alone).eval()
    whole = AutoModelForSequenceClassification.from_pretrained(root / "dense").eval()
    with torch.no_grad():
        for text in test:
            mine, its = official(**tokenizer(text, return_tensors="pt")), whole(**dense(text, return_tensors="pt"))
            torch.testing.assert_close(mine.logits, its.logits, rtol=0, atol=1e-6)


def test_scores_and_units_do_not_depend_on_the_vocabulary(root, alone, tmp_path):
    settings = ("rounds=[0.5]", "align=4", "rows=64")
    plain = pruned(root, tmp_path / "plain", "kinds=[head, neuron]", *settings)
    with_it = pruned(root, tmp_path / "with", "kinds=[head, neuron, vocabulary]", *settings)
    assert with_it["groups"] == plain["groups"]
    assert "vocabulary" not in plain
    (tmp_path / "scores").mkdir()
    score_units(
        alone, root / "prepared", resolve(None, BASE).score, ["head"], "accuracy", 0, tmp_path, tmp_path / "scores"
    )
    found, first = (load_file(path / "scores/scores.safetensors") for path in (tmp_path, root))
    for name, values in first.items():
        torch.testing.assert_close(found[name], values, rtol=1e-4, atol=1e-7)


def test_what_stays_can_go_back_to_early_weights(root, tmp_path):
    settings = ("kinds=[head, vocabulary]", "rounds=[0.25]")
    pruned(root, tmp_path / "out", *settings, early=root / "s/start")
    early, model = load(root / "s/start"), load(tmp_path / "out")
    kept = read_vocabulary(tmp_path / "out").kept
    assert torch.equal(model.get_input_embeddings().weight, early.get_input_embeddings().weight[kept])
    assert not torch.equal(load(root / "dense").get_input_embeddings().weight, early.get_input_embeddings().weight)


def test_movement_scores_a_model_of_fewer_tokens(root, alone, tmp_path):
    recipe = resolve(
        None, [*BASE, "score.criterion=movement", "score.training={epochs: 0.2, batch_size: 16, precision: fp32}"]
    )
    (tmp_path / "scores").mkdir()
    score_units(
        alone, root / "prepared", recipe.score, ["head"], "accuracy", 0, tmp_path / "scratch", tmp_path / "scores"
    )
    assert load_file(tmp_path / "scores/scores.safetensors")["head.0"].shape == (4,)


def test_what_l0_trained_is_read_with_its_own_tokenizer(root, alone, tmp_path):
    """Heads whose gates are shut go, and the outputs on rows of the smaller vocabulary stay."""
    recipe = resolve(
        None,
        [
            *BASE,
            "score={criterion: l0, penalty: 0.3, gate_rate: 0.3}",
            "score.training={epochs: 3, batch_size: 16, precision: fp32, learning_rate: 2e-3}",
        ],
    )
    scores, out = tmp_path / "scores", tmp_path / "out"
    scores.mkdir()
    score_units(alone, root / "prepared", recipe.score, ["head"], "accuracy", 0, tmp_path / "scratch", scores)
    settings = ("kinds=[head, vocabulary]", "rounds=[{head: {threshold: 1.0e-6}}]", "reconstruct=false")
    plan = pruned(root, out, *settings, model="alone", scores=scores)
    assert any(group["removed"] for group in plan["groups"])
    said = []
    for directory in (scores / "model", out):
        assert read_vocabulary(directory) == read_vocabulary(alone)
        assert len(AutoTokenizer.from_pretrained(directory)) == len(AutoTokenizer.from_pretrained(alone))
        said.append(logits(forward(load(directory)), read_split(root / "prepared", "validation", directory), 16))
    np.testing.assert_allclose(said[1], said[0], atol=1e-5)


def test_parameters_that_went_with_the_vocabulary_count(root, alone, tmp_path):
    """Of 30 % of all parameters the vocabulary takes its part, heads and neurons the rest."""
    dense = parameters(load(root / "dense"))
    settings = ("rounds=[{parameters: 0.3}]", "align=4", "rows=64", "reconstruct=false")
    pruned(root, tmp_path / "with", "kinds=[head, neuron, vocabulary]", *settings)
    pruned(root, tmp_path / "without", "kinds=[head, neuron]", *settings)
    model, other = load(tmp_path / "with"), load(tmp_path / "without")
    assert 0.65 * dense < parameters(model) <= 0.7 * dense
    assert parameters(other) <= 0.7 * dense
    assert flops(model, 10) > flops(other, 10)


def test_later_rounds_lose_no_more_tokens(finished):
    first, second = (read_json(finished / f"cut-{name}/plan.json") for name in ("r1", "r2"))
    assert "vocabulary" in first
    assert "vocabulary" not in second
    for name in ("cut-r1", "rounds/r1", "cut-r2", "rounds/r2", "quantized/fp32", "quantized/static"):
        assert read_vocabulary(finished / name) == read_vocabulary(finished / "cut-r1")
        assert len(AutoTokenizer.from_pretrained(finished / name)) == first["vocabulary"]["after"]


def test_every_model_is_judged_in_its_own_numbers(finished):
    quality = read_json(finished / "test/quality.json")["models"]
    assert {name: figures["quality"] > 0.8 for name, figures in quality.items()} == dict.fromkeys(quality, True)
    assert quality["r2"]["parameters"] < quality["r1"]["parameters"] < quality["dense"]["parameters"]
    verdict = read_json(finished / "verdict/r2/verdict.json")
    assert verdict["parameters"] == quality["r2"]["parameters"]
    assert verdict["state"] == "met"
    texts = pq.read_table(finished / "prepared/test.parquet")["text"].to_pylist()
    predictions = pq.read_table(finished / "test/predictions.parquet")
    official = AutoModelForSequenceClassification.from_pretrained(finished / "rounds/r2", trust_remote_code=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(finished / "rounds/r2")
    with torch.no_grad():
        classes = [int(official(**tokenizer(text, return_tensors="pt")).logits.argmax()) for text in texts]
    assert predictions["r2"].to_pylist() == classes


def test_graphs_say_what_their_checkpoint_says(finished, capsys, monkeypatch):
    monkeypatch.chdir(finished)
    rows = read_split(finished / "prepared", "test", finished / "quantized/fp32").batch(range(8))
    ours = open_model(finished / "rounds/r2", 1)(rows)
    np.testing.assert_allclose(open_model(finished / "quantized/fp32", 1)(rows), ours, atol=1e-4)
    said = []
    for directory in ("rounds/r2", "quantized/fp32"):
        predict(str(finished / directory), [*UNSEEN, "the film is great", "a poor story 17"])
        said.append([line.split("\t")[0] for line in capsys.readouterr().out.splitlines()])
    assert said[0] == said[1]


@pytest.mark.parametrize("setting", ["vocabulary_min_count=2", "vocabulary_size=100"])
def test_rows_with_a_token_that_went_are_encoded_anew(root, tmp_path, setting):
    """Each number above 36 is in one text: with a count of 2 or 100 tokens most of them become digits."""
    out = tmp_path / "out"
    plan = pruned(root, out, "kinds=[vocabulary]", "rounds=[{vocabulary: true}]", f"{setting}")
    assert plan["vocabulary"]["proof"]["changed"] > 200
    tokenizer = AutoTokenizer.from_pretrained(out)
    for name in SPLITS:
        texts = pq.read_table(root / "prepared" / f"{name}.parquet")["text"].to_pylist()
        rows = read_split(root / "prepared", name, out)
        wanted = tokenizer(texts, truncation=True, max_length=16)["input_ids"]
        assert [row.tolist() for row in rows.input_ids] == wanted
        assert logits(forward(load(out)), rows, 16).shape == (len(rows), 2)
    (tmp_path / "tuned").mkdir()
    finetune(
        out, root / "dense", root / "prepared", root / "teacher",
        resolve(None, [*BASE, "finetune.epochs=0.2", "finetune.hidden=1.0"]).finetune, "accuracy", 0, tmp_path / "s",
        tmp_path / "tuned",
    )  # fmt: skip
    assert read_vocabulary(tmp_path / "tuned") == read_vocabulary(out)


def test_pairs_are_encoded_anew_with_their_types(tmp_path):
    """Rows of two texts, of which the first have a word that is there only once."""
    choose = random.Random(0)  # noqa: S311
    parts = [" ".join(choose.sample(PLAIN, 4)) for _ in range(60)]
    lines = [f"{part} {i},{parts[-i]},{'pos' if i % 2 else 'neg'}" for i, part in enumerate(parts)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,second,label", *lines]))
    make_model(tmp_path / "model")
    for name in ("prepared", "out"):
        (tmp_path / name).mkdir()
    prepared, out = tmp_path / "prepared", tmp_path / "out"
    recipe = resolve(None, [*BASE, "data.text_pair=second", "prune.kinds=[vocabulary]", "prune.vocabulary_min_count=2",
                            "prune.rounds=[{vocabulary: true}]"])  # fmt: skip
    prepare(recipe.data, recipe.task, recipe.model, 0, tmp_path, prepared)
    model = load(tmp_path / "model", head=read_task(prepared))
    smaller, facts = with_vocabulary(model, tmp_path / "model", prepared, recipe.prune.goals[0], recipe.prune, out)
    assert facts["vocabulary"]["proof"]["changed"] > 10
    tokenizer = AutoTokenizer.from_pretrained(out)
    for name in SPLITS:
        table = pq.read_table(prepared / f"{name}.parquet")
        rows = read_split(prepared, name, out)
        wanted = tokenizer(
            table["text"].to_pylist(),
            table["text_pair"].to_pylist(),
            truncation=True,
            max_length=recipe.task.max_length,
        )
        assert [row.tolist() for row in rows.input_ids] == wanted["input_ids"]
        assert [row.tolist() for row in rows.token_type_ids] == wanted["token_type_ids"]
        assert np.isfinite(logits(forward(smaller), rows, 16)).all()
