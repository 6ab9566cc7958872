"""A causal model without the tokens that its texts do not use: rows, teacher and what it writes are in new numbers."""

import pydoc_data.topics

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from test_generation_pipeline import MODELS, SETTINGS
from transformers import AutoModelForCausalLM, AutoTokenizer

from tasks.core.errors import UserError
from tasks.core.files import read_json
from tasks.evaluate import Entry, evaluate_models, evaluate_round
from tasks.finetune import finetune
from tasks.modeling.checkpoint import load
from tasks.modeling.inference import forward, logits
from tasks.modeling.vocabulary import as_read_by
from tasks.prepare import prepare
from tasks.prune import prune
from tasks.prune.unused import with_vocabulary
from tasks.recipe.load import resolve
from tasks.score import score_units
from tasks.text.data import read_split
from tasks.text.tokenizers_from_text import train as train_tokenizer
from tasks.text.vocabulary import read_vocabulary
from tasks.train import train_dense

NAMES = sorted(pydoc_data.topics.topics)
TOPICS = [pydoc_data.topics.topics[name].strip() for name in NAMES]
ROUND = ["prune.kinds=[neuron, vocabulary]", "train.epochs=0.2"]


@pytest.fixture(scope="module", params=sorted(MODELS))
def finished(request, tmp_path_factory):
    """A round of neurons and the vocabulary, and the vocabulary alone; the tokenizer is of far more text."""
    root = tmp_path_factory.mktemp(request.param)
    (root / "text.txt").write_text("\n\n".join(TOPICS[:4]))
    tokenizer = train_tokenizer(TOPICS, 1500, root / "model")
    torch.manual_seed(0)
    MODELS[request.param](len(tokenizer), tokenizer.eos_token_id).save_pretrained(root / "model")
    recipe = resolve(None, [*SETTINGS, *ROUND])
    names = ("prepared", "dense", "teacher", "scores", "cut", "alone", "r1", "round", "round_times", "test", "times")
    out = {name: root / name for name in names}
    for directory in out.values():
        directory.mkdir()
    prepared, dense, teacher, metric = out["prepared"], out["dense"], out["teacher"], recipe.task.metric
    prepare(recipe.data, recipe.task, recipe.model, 0, root, prepared)
    train_dense(root / "model", prepared, recipe.train, metric, 0, root / "s", dense, teacher)
    score_units(dense, prepared, recipe.score, recipe.prune.units, metric, 0, root / "s1", out["scores"])
    prune(dense, out["scores"], prepared, teacher, 0, recipe.score.criterion, recipe.prune, 0, out["cut"])
    with_vocabulary(load(dense), dense, prepared, recipe.prune.goals[0], recipe.prune, out["alone"])
    taught = recipe.finetune.model_copy(update={"alpha": 0.5, "hidden": 1.0})
    finetune(out["cut"], dense, prepared, teacher, taught, metric, 0, root / "s2", out["r1"])
    evaluate_round(
        "r1", out["r1"], dense, teacher, prepared, recipe.budget, recipe.evaluate, metric, out["round"],
        out["round_times"],
    )  # fmt: skip
    entries = {name: Entry("x", out[name], out[name]) for name in ("dense", "alone", "r1")}
    evaluate_models(entries, "r1", prepared, recipe.evaluate, metric, 0, root, out["test"], out["times"])
    return root


def test_likelihoods_are_those_of_the_dense_model_over_what_stays(finished):
    vocabulary, model = read_vocabulary(finished / "alone"), AutoModelForCausalLM.from_pretrained(finished / "dense")
    kept = torch.tensor(vocabulary.kept)
    assert len(kept) < 0.9 * vocabulary.before
    rows, own = (read_split(finished / "prepared", "test", finished / name) for name in ("dense", "alone"))
    losses = logits(forward(load(finished / "alone")), own, 8)
    for row in range(0, len(rows), 7):
        ids = torch.from_numpy(rows.input_ids[row])
        with torch.no_grad():
            scores = model(ids[None]).logits[0, :-1][:, kept].double()
        true = torch.tensor([vocabulary.mapping[int(token)] for token in ids[1:]])
        wanted = F.cross_entropy(scores, true, reduction="none")
        np.testing.assert_allclose(losses[row, 1 : len(ids)], wanted, atol=1e-4)


def test_test_quality_and_samples_are_of_each_model_in_its_own_numbers(finished):
    quality = read_json(finished / "test/quality.json")["models"]
    assert quality["alone"]["parameters"] < quality["dense"]["parameters"]
    assert quality["dense"]["quality"] <= quality["alone"]["quality"] < quality["dense"]["quality"] + 0.5
    written = read_json(finished / "test/samples.json")
    assert len(written["prompts"]) == 3
    tokenizer, model = (kind.from_pretrained(finished / "alone") for kind in (AutoTokenizer, AutoModelForCausalLM))
    assert len(tokenizer) == model.config.vocab_size
    for entry, text in zip(written["prompts"], written["models"]["alone"]["greedy"]["texts"], strict=True):
        prompt = [tokenizer.eos_token_id, *tokenizer(entry["prompt"])["input_ids"]]
        new: list[int] = []
        while len(new) < 10:
            with torch.no_grad():
                token = int(model(torch.tensor([prompt + new])).logits[0, -1].argmax())
            if token == tokenizer.eos_token_id:
                break
            new.append(token)
        assert text == tokenizer.decode(new)


def test_the_teacher_gives_its_own_distribution_over_what_stays(finished):
    vocabulary, dense = read_vocabulary(finished / "cut"), load(finished / "dense")
    teacher = as_read_by(dense, finished / "cut")
    rows, own = (read_split(finished / "prepared", "train", finished / name).batch([0, 1]) for name in ("dense", "cut"))
    with torch.no_grad():
        whole, less = (
            model(**{k: torch.from_numpy(v) for k, v in batch.items()}, output_hidden_states=True)
            for model, batch in ((dense, rows), (teacher, own))
        )
    torch.testing.assert_close(less.logits, whole.logits[..., vocabulary.kept], rtol=0, atol=1e-5)
    for mine, its in zip(less.hidden_states, whole.hidden_states, strict=True):
        assert torch.equal(mine, its)


def test_recovery_learns_and_its_checkpoint_is_whole(finished):
    before, after = load(finished / "cut"), load(finished / "r1")
    assert read_vocabulary(finished / "r1") == read_vocabulary(finished / "cut") == read_vocabulary(finished / "alone")
    assert any((a != b).any() for a, b in zip(before.parameters(), after.parameters(), strict=True))
    tokenizer = AutoTokenizer.from_pretrained(finished / "r1")
    assert tokenizer.decode(tokenizer(TOPICS[30])["input_ids"]) == TOPICS[30]
    assert read_json(finished / "round/verdict.json")["drop"] < 0.5


def test_a_size_that_takes_tokens_of_rows_is_refused(finished, tmp_path):
    least = len(read_vocabulary(finished / "alone").kept) - 20
    recipe = resolve(None, [*SETTINGS, *ROUND, f"prune.vocabulary_size={least}"])
    with pytest.raises(UserError, match=r"prune.vocabulary_size: \d+; \d+ tokens of windows or blocks"):
        with_vocabulary(
            load(finished / "dense"), finished / "dense", finished / "prepared", recipe.prune.goals[0], recipe.prune,
            tmp_path,
        )  # fmt: skip
