"""The page of a causal model shows perplexity, and what the models write."""

from pathlib import Path
from typing import Any

from test_report import Balance, change, make

from tasks.core.files import read_json, write_json


def test_perplexity_and_samples_are_shown(finished_run: Path) -> None:
    def causal(value: Any) -> None:
        for number, facts in enumerate(value["models"].values()):
            facts["metrics"] = {"log_likelihood": facts["quality"], "perplexity": 17.25 + number}

    ways = {
        way: {
            **dict.fromkeys(("rouge1", "rouge2", "rouge_l", "distinct_1", "distinct_2", "repetition_4"), 0.125),
            "bleu": 3.21,
            "bleu_signature": "nrefs:1",
            "texts": [f"{way} <b>words</b>"],
        }
        for way in ("greedy", "sampled")
    }
    samples = {
        "prompts": [{"text": 4, "prompt": "Once upon", "reference": "a time"}],
        "models": {"dense": ways, "r1": ways},
    }
    change(finished_run / "data/evaluate/test/quality.json", causal)
    write_json(finished_run / "data/evaluate/test/samples.json", samples)
    out = make(finished_run, finished_run / "out")
    page = (out / "report.html").read_text(encoding="utf-8")
    parser = Balance()
    parser.feed(page)
    assert (parser.open, parser.wrong) == ([], [])
    assert "perplexity 17.25" in page
    assert page.count("greedy &lt;b&gt;words&lt;/b&gt;") == 2
    assert page.count("<td>3.2</td>") == 4
    assert "<dt>r1, sampled</dt>" in page
    assert read_json(out / "report.json")["samples"] == samples
