"""A tiny GPT-2 on real English text, from its recipe to the report, with nothing to quantize."""

import json
import math
import pydoc_data.topics
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from tasks.text.tokenizers_from_text import train
from tests.flows.conftest import is_clean
from tests.flows.tiny import finish, make_clone, secateur

RECIPE = """
name: tiny-generation
model: {source: model}
data: {source: text, unit: paragraph}
task: {type: generation, metric: log_likelihood, max_length: 48, doc_stride: 16}
budget: {max_drop: 0.5, max_parameters: 0.8}
train: {epochs: 1, learning_rate: 5.0e-3, batch_size: 16, precision: fp32}
finetune: {epochs: 1, learning_rate: 2.0e-3, batch_size: 16, precision: fp32}
distill: {epochs: 1, learning_rate: 2.0e-3, batch_size: 16, precision: fp32}
prune: {rounds: [0.2, 0.5], align: 4, rows: 16}
score: {rows: 32, batch_size: 16}
quantize: {models: []}
evaluate: {latency_rows: 2, throughput_batches: 1, repeats: 1, bootstrap: 100, prompts: 2, prompt_tokens: 8,
           new_tokens: 8}
"""


@pytest.mark.long
def test_a_causal_model_goes_from_recipe_to_report(prefect: str, tmp_path: Path) -> None:
    root = make_clone(tmp_path / "clone")
    topics = [text.strip() for _, text in sorted(pydoc_data.topics.topics.items())]
    (root / "text").mkdir()
    for name, part in (("train", topics[:3]), ("validation", topics[3:5]), ("test", topics[5:7])):
        (root / "text" / f"{name}.txt").write_text("\n\n".join(part))
    tokenizer = train(topics[:3], 400, root / "model")
    torch.manual_seed(0)
    eos, size = tokenizer.eos_token_id, len(tokenizer)
    sizes = {"n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4}
    config = GPT2Config(vocab_size=size, bos_token_id=eos, eos_token_id=eos, **sizes)
    GPT2LMHeadModel(config).save_pretrained(root / "model")
    (root / "recipe.yaml").write_text(RECIPE)

    finish(secateur(root, prefect, "run", "recipe.yaml"))
    quality = json.loads((root / "data/evaluate/test/quality.json").read_text())
    assert quality["metric"] == "log_likelihood"
    for facts in quality["models"].values():
        assert facts["metrics"]["perplexity"] == pytest.approx(math.exp(-facts["quality"]))
        assert facts["metrics"]["perplexity"] < 400
    assert quality["models"]["r2"]["parameters"] < 0.8 * quality["models"]["dense"]["parameters"]
    samples = json.loads((root / "data/evaluate/test/samples.json").read_text())
    assert samples["models"].keys() == quality["models"].keys()
    page = (root / "data/report/report.html").read_text()
    assert "What the models write" in page
    assert f"perplexity {quality['models']['dense']['metrics']['perplexity']:.2f}" in page
    assert is_clean(root)
