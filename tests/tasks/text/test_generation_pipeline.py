"""Causal language modelling through the stages: tiny models of two families on real English text."""

import math
import pydoc_data.topics

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from tasks.core.errors import UserError
from tasks.core.files import read_json
from tasks.distill import distill
from tasks.evaluate import Entry, evaluate_models, evaluate_round
from tasks.finetune import finetune
from tasks.modeling.inference import open_causal
from tasks.prepare import prepare
from tasks.prune import prune
from tasks.quantize import quantize
from tasks.recipe.load import resolve
from tasks.recipe.quantizing import WEIGHT_ONLY
from tasks.score import score_units
from tasks.text.data import read_split
from tasks.text.perplexity import likelihood
from tasks.text.tokenizers_from_text import train as train_tokenizer
from tasks.train import train_dense

TOPICS = pydoc_data.topics.topics
TEXT = "\n\n".join(TOPICS[name].strip() for name in sorted(TOPICS)[:8])
LENGTH, STRIDE = 48, 16
SETTINGS = [
    f"task={{type: generation, metric: log_likelihood, max_length: {LENGTH}, doc_stride: {STRIDE}}}",
    "data={source: text.txt, text: text, labels: null, group: null, unit: paragraph, unescape: false}",
    "model.source=model",
    "train={epochs: 2, learning_rate: 5e-3, batch_size: 16, precision: fp32, freeze_embeddings: false}",
    "finetune={epochs: 0.5, batch_size: 16, precision: fp32, freeze_embeddings: false}",
    "distill={epochs: 0.5, batch_size: 16, precision: fp32, layers: [0], freeze_embeddings: false}",
    "score={rows: 16, batch_size: 8}",
    "prune={rounds: [0.3], align: 4, rows: 16}",
    "budget={max_drop: 0.5, speedup_b1: 0.001, speedup_b32: null, max_flops: 0.99}",
    "evaluate={latency_rows: 2, throughput_batches: 1, repeats: 1, bootstrap: 50, batch_size: 8}",
    "evaluate={prompts: 3, prompt_tokens: 12, new_tokens: 10}",
    "quantize.models=[]",
]
MODELS = {
    "gpt2": lambda size, eos: GPT2LMHeadModel(
        GPT2Config(
            vocab_size=size, n_positions=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=eos, eos_token_id=eos
        )
    ),
    "llama": lambda size, eos: LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=16, max_position_embeddings=64, bos_token_id=eos, eos_token_id=eos,
            tie_word_embeddings=True,
        )
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=sorted(MODELS))
def finished(request, tmp_path_factory):
    """Every stage, by its function, in a directory of its own."""
    root = tmp_path_factory.mktemp(request.param)
    (root / "text.txt").write_text(TEXT)
    tokenizer = train_tokenizer([TEXT], 400, root / "model")
    torch.manual_seed(0)
    MODELS[request.param](len(tokenizer), tokenizer.eos_token_id).save_pretrained(root / "model")
    recipe = resolve(None, SETTINGS)
    out = {name: root / name for name in ("prepared", "dense", "teacher", "scores", "cut", "r1", "student", "round")}
    out |= {name: root / name for name in ("round_times", "test", "times")}
    for directory in out.values():
        directory.mkdir()
    prepared, dense, teacher = out["prepared"], out["dense"], out["teacher"]
    prepare(recipe.data, recipe.task, recipe.model, 0, root, prepared)
    metric = recipe.task.metric
    train_dense(root / "model", prepared, recipe.train, metric, 0, root / "s", dense, teacher)
    score_units(dense, prepared, recipe.score, recipe.prune.kinds, metric, 0, root / "s1", out["scores"])
    prune(dense, out["scores"], prepared, teacher, 0, recipe.score.criterion, recipe.prune, 0, out["cut"])
    finetune(out["cut"], dense, prepared, teacher, recipe.finetune, metric, 0, root / "s2", out["r1"])
    distill(dense, None, prepared, teacher, recipe.distill, metric, 0, root / "s3", out["student"])
    evaluate_round(
        "r1", out["r1"], dense, teacher, prepared, recipe.budget, recipe.evaluate, metric, out["round"],
        out["round_times"],
    )  # fmt: skip
    entries = {name: Entry("x", out[name], out[name]) for name in ("dense", "r1", "student")}
    if request.param == "llama":
        settings = recipe.quantize.model_copy(update={"methods": ("fp32", *WEIGHT_ONLY), "calibration_rows": 8})
        quantize(out["r1"], prepared, settings, metric, 0, root / "q")
        entries |= {f"r1-{method}": Entry("x", root / "q" / method, out["r1"]) for method in settings.methods}
    evaluate_models(entries, "r1", prepared, recipe.evaluate, metric, 0, root, out["test"], out["times"])
    return root


def test_blocks_hold_the_training_text_and_windows_score_each_token_of_the_others_once(finished):
    tokenizer = AutoTokenizer.from_pretrained(finished / "prepared/tokenizer")
    train = read_split(finished / "prepared", "train")
    assert set(train.lengths) == {LENGTH}
    assert set(train.labels) == {1}
    stream = tokenizer.decode(np.concatenate(train.input_ids))
    for paragraph in stream.split(tokenizer.eos_token)[:-1]:
        assert paragraph in TEXT
    test = read_split(finished / "prepared", "test")
    assert test.lengths.max() == LENGTH
    for number, text in enumerate(test.documents.texts):
        rows = np.flatnonzero(test.documents.document == number)
        scored = [test.input_ids[row][test.labels[row] :] for row in rows]
        assert tokenizer.decode(np.concatenate(scored)) == text
        assert all(test.labels[row] == STRIDE for row in rows[1:-1])


def test_quality_on_test_is_that_of_the_strided_windows(finished):
    quality = read_json(finished / "test/quality.json")
    tokenizer = AutoTokenizer.from_pretrained(finished / "prepared/tokenizer")
    texts = read_split(finished / "prepared", "test").documents.texts
    ids = [np.asarray(tokenizer(text)["input_ids"], np.int64) for text in texts]
    table = pq.read_table(finished / "test/predictions.parquet")
    assert quality["rows"] == len(texts)
    for name, facts in quality["models"].items():
        model = open_causal(finished / facts["path"], 1)
        found = likelihood(model, ids, max_length=LENGTH, stride=LENGTH - STRIDE, prefix=tokenizer.eos_token_id)
        np.testing.assert_allclose(table[name].to_numpy(), found.nll, rtol=1e-5)
        np.testing.assert_array_equal(table["tokens"].to_numpy(), found.tokens)
        assert facts["metrics"]["perplexity"] == pytest.approx(found.perplexity, rel=1e-5)
        assert facts["quality"] == pytest.approx(-math.log(found.perplexity), rel=1e-5)
        assert facts["quality_low"] < facts["quality"] < facts["quality_high"] < 0
    dense = quality["models"]["dense"]
    assert dense["quality"] > -math.log(400) + 1
    assert dense["drop"] == 0
    assert quality["models"]["r1"]["parameters"] < dense["parameters"]


def test_the_round_is_judged_on_validation_and_timed_in_pytorch(finished):
    verdict = read_json(finished / "round/verdict.json")
    assert verdict["state"] == "met"
    assert verdict["perplexity"] == pytest.approx(math.exp(-verdict["quality"]))
    assert set(read_json(finished / "round_times/times.json")["models"]) == {"dense", "r1"}


def test_models_continue_the_same_prompts_and_transformers_alone_continues_them_so(finished):
    samples = read_json(finished / "test/samples.json")
    assert len(samples["prompts"]) == 3
    assert set(samples["models"]) >= {"dense", "r1", "student"}
    tokenizer = AutoTokenizer.from_pretrained(finished / "r1")
    texts = read_split(finished / "prepared", "test").documents.texts
    for name in ("dense", "r1"):
        model = AutoModelForCausalLM.from_pretrained(finished / name, trust_remote_code=True)
        for prompt, text in zip(samples["prompts"], samples["models"][name]["greedy"]["texts"], strict=True):
            ids = tokenizer(texts[prompt["text"]])["input_ids"]
            assert tokenizer.decode(ids[:12]) == prompt["prompt"]
            assert tokenizer.decode(ids[12:22]) == prompt["reference"]
            given = torch.tensor([[tokenizer.eos_token_id, *ids[:12]]])
            made = model.generate(given, max_new_tokens=10, do_sample=False)[0, 13:]
            assert tokenizer.decode(made, skip_special_tokens=True) == text
    if "r1-fp32" in samples["models"]:
        assert samples["models"]["r1-fp32"] == samples["models"]["r1"]
    greedy, sampled = (samples["models"]["dense"][way]["texts"] for way in ("greedy", "sampled"))
    assert greedy != sampled


def test_graphs_of_the_pruned_model_are_small_and_timed_as_they_write(finished):
    quality, times = (read_json(finished / name)["models"] for name in ("test/quality.json", "times/times.json"))
    for figures in times.values():
        assert figures["prefill_tokens_s"] > 0
        assert figures["decode_tokens_s"] > 0
    if "r1-fp32" in quality:
        sizes = [quality[f"r1-{method}"]["bytes"] for method in ("fp32", *WEIGHT_ONLY)]
        assert sizes == sorted(sizes, reverse=True)
        drops = [quality[f"r1-{method}"]["drop"] - quality["r1"]["drop"] for method in ("fp32", *WEIGHT_ONLY)]
        assert [abs(drop) < limit for drop, limit in zip(drops, (1e-5, 0.02, 0.2), strict=True)] == [True] * 3


def prepare_with(root, *settings, **special):
    """Prepares the text with a tokenizer whose special tokens are `special`."""
    (root / "text.txt").write_text(TEXT)
    train_tokenizer([TEXT], 300, root / "model")
    tokenizer = AutoTokenizer.from_pretrained(root / "model")
    for name, token in special.items():
        setattr(tokenizer, name, token)
    tokenizer.save_pretrained(root / "model")
    (root / "model/config.json").write_text('{"model_type": "gpt2", "vocab_size": 300, "n_positions": 64}')
    recipe = resolve(None, [*SETTINGS, *settings])
    (root / "out").mkdir()
    prepare(recipe.data, recipe.task, recipe.model, 0, root, root / "out")
    return read_json(root / "out/data.json")


def test_a_tokenizer_without_padding_pads_with_its_end_of_text(tmp_path):
    facts = prepare_with(tmp_path, pad_token=None)
    assert facts["pad_token_id"] == AutoTokenizer.from_pretrained(tmp_path / "out/tokenizer").eos_token_id
    rows = {name: split["windows"] for name, split in facts["splits"].items()}
    assert rows == {name: len(read_split(tmp_path / "out", name)) for name in rows}
    assert not any(split["truncated"] for split in facts["splits"].values())


def test_a_tokenizer_without_end_of_text_is_refused(tmp_path):
    with pytest.raises(UserError, match="no end-of-text token; set eos_token"):
        prepare_with(tmp_path, eos_token=None)


def test_windows_longer_than_the_learned_positions_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"task.max_length: 80; this model takes 1 to 64 tokens"):
        prepare_with(tmp_path, "task.max_length=80")
