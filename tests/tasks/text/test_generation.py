"""What the causal task computes, against naive formulas in float64; which models, recipes and texts it takes."""

import numpy as np
import pytest
import torch
from tiny_causal import VOCABULARY, build, documents
from transformers import BertConfig, BertLMHeadModel

from tasks.core.errors import UserError
from tasks.modeling.inference import forward, logits
from tasks.prepare.read import read
from tasks.recipe.load import resolve
from tasks.recipe.schema import METRICS
from tasks.text.data import Documents, Split
from tasks.text.generation import Generation
from tasks.text.metrics import Bootstrap, quality
from tasks.text.registry import TASKS, task_of
from tasks.training.loss import asked, distillation

TASK = Generation()
LENGTHS = [3, 9, 9, 14, 2]
RECIPE = ["task={type: generation, metric: log_likelihood, max_length: 128}", "data.labels=null", "quantize.models=[]"]


@pytest.fixture(params=["gpt2", "llama"])
def model(request):
    return build(request.param)


@pytest.fixture
def split():
    """Five rows, windows of three documents: the second has three of them."""
    return Split(documents(LENGTHS), None, np.array([1, 1, 4, 6, 1]), 0, documents=_owners([0, 1, 1, 1, 2]))


def _owners(rows):
    return Documents(["a", "b", "c"], np.array(rows))


def log_p(model, ids):
    """log p of every next token, float64, shape (length - 1, vocabulary)."""
    with torch.no_grad():
        z = model(input_ids=torch.from_numpy(ids)[None]).logits[0, :-1].double().numpy()
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def naive(model, split):
    """-log p of the scored tokens of each row."""
    rows = zip(split.input_ids, split.labels, strict=True)
    return [[-log_p(model, ids)[t - 1, ids[t]] for t in range(first, len(ids))] for ids, first in rows]


def test_what_is_kept_of_a_batch_is_the_log_softmax_of_each_token(model, split):
    kept = logits(forward(model), split, 2)
    assert kept.shape == (5, 14)
    for row, ids, first, expected in zip(kept, split.input_ids, split.labels, naive(model, split), strict=True):
        np.testing.assert_allclose(row[first : len(ids)], expected, atol=1e-4)
    together = TASK.cells(TASK.predict(kept, split, {}), split)
    sums = [sum(row) for row in naive(model, split)]
    expected = [[sums[0], 2], [sum(sums[1:4]), 8 + 5 + 8], [sums[4], 1]]
    np.testing.assert_allclose(together, expected, atol=1e-3)


def test_loss_is_the_mean_over_the_scored_tokens_of_each_row_padded_or_not(model, split):
    rows = np.array([3, 0, 2])
    batch = {name: torch.from_numpy(array) for name, array in split.batch(rows).items()}
    expected = [np.mean(naive(model, split)[row]) for row in rows]
    np.testing.assert_allclose(TASK.loss(model(**batch), split, rows).detach(), expected, rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_distillation_asks_the_teacher_about_every_scored_token(model, split, temperature):
    teacher, rows, alpha = build("llama", seed=1), np.array([3, 1, 2]), 0.3
    told = asked(teacher, split, bf16=False)
    batch = {name: torch.from_numpy(array) for name, array in split.batch(rows).items()}
    found = distillation(TASK, split, told, temperature, alpha)(model(**batch), rows)

    def warm(source, ids):
        z = log_p(source, ids) / temperature
        return z - np.log(np.exp(z).sum(-1, keepdims=True))

    for value, row in zip(found.detach(), rows, strict=True):
        ids, first = split.input_ids[row], split.labels[row]
        p, q = warm(teacher, ids)[first - 1 :], warm(model, ids)[first - 1 :]
        soft = temperature**2 * (np.exp(p) * (p - q)).sum(-1).mean()
        assert float(value) == pytest.approx(alpha * np.mean(naive(model, split)[row]) + (1 - alpha) * soft, rel=1e-4)
    found.sum().backward()
    assert model.get_input_embeddings().weight.grad is not None
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_quality_is_minus_the_logarithm_of_perplexity_and_falls_by_documents():
    cells = np.array([[20.0, 10], [90.0, 30], [8.0, 2]])
    metric, shown = TASK.metrics["log_likelihood"], TASK.figures["perplexity"]
    assert quality(metric, cells) == pytest.approx(-118 / 42)
    assert quality(shown, cells) == pytest.approx(np.exp(118 / 42))
    worse = cells + np.array([[0.5, 0], [1.5, 0], [0.1, 0]])
    lost = Bootstrap(metric, 3, 200, seed=0).drop(cells, worse)
    assert lost.value == pytest.approx(2.1 / 42)
    assert lost.low == pytest.approx(0.05)
    assert lost.high == pytest.approx(0.05)


def test_a_model_that_sees_the_next_token_is_refused(model):
    TASK.check(model)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 32}
    torch.manual_seed(0)
    seeing = BertLMHeadModel(BertConfig(vocab_size=VOCABULARY, initializer_range=0.5, **sizes)).eval()
    with pytest.raises(UserError, match="a bert model sees the tokens that it is to predict"):
        TASK.check(seeing)


def test_recipes_may_say_what_the_registry_has():
    assert METRICS.keys() == TASKS.keys()
    assert set(METRICS["generation"]) == set(Generation.metrics)
    assert isinstance(task_of({"architectures": ["GPT2LMHeadModel"]}), Generation)
    assert isinstance(task_of({"architectures": ["LlamaForCausalLM"]}), Generation)
    assert resolve(None, RECIPE).task.type == "generation"


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        (
            "quantize.models=[dense]",
            "names dynamic, static; for generation there are fp32, int8_weights, int4_weights",
        ),
        ("data.labels=[a, b]", "data.labels is set"),
        ("data.text_pair=other", "data.text_pair is set"),
        ("evaluate.new_tokens=100", "133 with the token before them, must be at most task.max_length"),
        ("task.doc_stride=65", "windows would hardly move on"),
        ("train.class_weights=true", "only classification has one class per row"),
        ("task.metric=perplexity", "must be log_likelihood"),
    ],
)
def test_what_does_not_fit_is_refused_at_the_door(setting, says):
    with pytest.raises(UserError, match=says.replace("[", r"\[")):
        resolve(None, [*RECIPE, setting])


@pytest.mark.parametrize(
    ("unit", "texts"),
    [("line", ["a\tb", "c", "  d", "e"]), ("paragraph", ["a\tb\nc", "  d\ne"])],
)
def test_texts_of_a_txt_are_lines_or_paragraphs(tmp_path, unit, texts):
    (tmp_path / "train.txt").write_text("a\tb\r\nc\n\n \n  d\ne\n")
    (tmp_path / "test.txt").write_text("x\n")
    data = resolve(None, [*RECIPE, f"data.unit={unit}"]).data
    tables = read(tmp_path, data, labelled=False)
    assert tables["train"].columns == {"text": texts}
    assert tables["test"].columns == {"text": ["x"]}
