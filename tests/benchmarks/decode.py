"""SmolLM2-135M writing text: transformers fp32 against ONNX Runtime with weights fp32, int8 and int4, dense and pruned.

    SECATEUR_DATA=… python tests/benchmarks/decode.py            # goes on where it stopped
    python tests/benchmarks/decode.py --table

Pruned: 20 % of the key-value groups and of the neurons, refitted, nothing trained. Perplexity: as in smollm2.py. Speed:
all models in one process, in turns, medians: a prompt of 256 tokens is read, then 64 are added, one text at a time. Raw
figures go to tests/benchmarks/results/decode.jsonl, models to .secateur/benchmarks/decode. `--speed`: measured anew.
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import raw
import torch
from transformers import AutoTokenizer

from tasks.core.files import tree_bytes, whole, write_json
from tasks.evaluate.timing import generation_speed
from tasks.modeling.checkpoint import load
from tasks.modeling.inference import GRAPH, open_causal
from tasks.modeling.size import SIZES, size
from tasks.prepare import prepare
from tasks.prune import prune
from tasks.quantize import quantize
from tasks.recipe.load import resolve
from tasks.score import score_units
from tasks.sources import cache_dir, fetch
from tasks.text.blocks import encode
from tasks.text.data import read_split
from tasks.text.perplexity import likelihood

ROOT = Path(".secateur/benchmarks/decode")
RESULTS = raw.RESULTS / "decode.jsonl"
METHODS = ("fp32", "int8_weights", "int4_weights")
FORMS = ("transformers", *METHODS)
MODELS = ("dense", "pruned")
LENGTH, PARAGRAPHS, PROMPT, NEW, REPEATS = 256, 100, 256, 64, 5


def main() -> None:
    """Runs what is not there yet and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only print what is there")
    parser.add_argument("--speed", action="store_true", help="measure speed anew")
    chosen = parser.parse_args()
    if not chosen.table:
        torch.set_num_threads(2)
        done = {(line["model"], line["form"]) for line in raw.lines(RESULTS) if "perplexity" in line}
        made = {}
        for model, form, directory in directories():
            made[model, form] = directory
            if (model, form) not in done:
                raw.add(RESULTS, {"model": model, "form": form, **quality(directory)})
        if chosen.speed or not any("decode_tokens_s" in line for line in raw.lines(RESULTS)):
            speed(made)
    print(table(raw.lines(RESULTS)))


def directories() -> Iterator[tuple[str, str, Path]]:
    """Every form of every model, made where it is not there yet, when it is its turn."""
    recipe = resolve(Path("smollm2-wiki"), [f"data.source={data()}", "prune.rounds=[0.2]"])
    dense, prepared = fetch(recipe.model.source, cache_dir(), Path(), "model"), ROOT / "prepared"
    if not prepared.is_dir():
        with whole(prepared) as out:
            prepare(recipe.data, recipe.task, recipe.model, recipe.seed, Path(), out)
    for model, source in zip(MODELS, (dense, ROOT / "pruned"), strict=True):
        if not source.is_dir():
            write_pruned(recipe, dense, prepared)
        yield model, "transformers", source
        for method in METHODS:
            if not (ROOT / f"{model}-{method}").is_dir():
                with whole(ROOT / f"{model}-{method}") as out:
                    settings = recipe.quantize.model_copy(update={"methods": (method,)})
                    quantize(source, prepared, settings, recipe.task.metric, recipe.seed, out)
            yield model, method, ROOT / f"{model}-{method}" / method


def write_pruned(recipe, dense: Path, prepared: Path) -> None:
    """The dense model without what its recipe's scores and refitting take from it in one round."""
    if not (ROOT / "scores").is_dir():
        with whole(ROOT / "scores") as out:
            task, scratch = recipe.task, ROOT / "scratch"
            score_units(dense, prepared, recipe.score, recipe.prune.kinds, task.metric, recipe.seed, scratch, out)
    with whole(ROOT / "teacher") as out:
        write_json(out / SIZES, size(load(dense), float(read_split(prepared, "train").lengths.mean())))
    with whole(ROOT / "pruned") as out:
        score = recipe.score.criterion
        prune(dense, ROOT / "scores", prepared, ROOT / "teacher", 0, score, recipe.prune, recipe.seed, out)


def quality(directory: Path) -> dict:
    """Perplexity on test, and megabytes."""
    model, tokenizer = open_causal(directory, 2), AutoTokenizer.from_pretrained(ROOT / "prepared" / "tokenizer")
    texts = (data() / "test.txt").read_text().splitlines()[:PARAGRAPHS]
    found = likelihood(model, encode(tokenizer, texts), max_length=LENGTH, stride=LENGTH // 2, batch_size=8)
    graph = directory / GRAPH
    weights = [graph] if graph.is_file() else list(directory.glob("*.safetensors"))
    return {
        "perplexity": found.perplexity,
        "tokens": int(found.tokens.sum()),
        "bytes": sum(tree_bytes(file) for file in weights),
    }


def speed(made: dict[tuple[str, str], Path]) -> None:
    """All models in turns; adds a line for each, with the load of the machine."""
    opened = {f"{model} {form}": open_causal(directory, 2) for (model, form), directory in made.items()}
    text = np.concatenate(read_split(ROOT / "prepared", "test").input_ids)[:PROMPT]
    busy = os.getloadavg()[0]
    for name, figures in generation_speed(opened, dict.fromkeys(opened, text), NEW, REPEATS).items():
        model, form = name.split()
        raw.add(RESULTS, {"model": model, "form": form, "load_before": busy, **figures})


def data() -> Path:
    """The directory of the paragraphs."""
    return Path(os.environ["SECATEUR_DATA"]).resolve() / "wiki_paragraphs"


def table(found: list[dict]) -> str:
    """Quality, size and the last measured speed, as Markdown; × is against dense transformers."""
    facts: dict[tuple[str, str], dict] = {}
    for line in found:
        facts.setdefault((line["model"], line["form"]), {}).update(line)
    base = facts.get(("dense", "transformers"), {})
    out = [
        "| model | weights | perplexity | change | MB | prefill tokens/s | × | decode tokens/s | × |",
        "|---" * 9 + "|",
    ]
    for model, form in ((model, form) for model in MODELS for form in FORMS):
        line, cells = facts.get((model, form), {}), [model, form]
        own = facts.get((model, "transformers"), {}).get("perplexity")
        known = "perplexity" in line and own
        cells += [f"{line['perplexity']:.2f}", f"{line['perplexity'] / own - 1:+.1%}"] if known else ["", ""]
        cells.append(f"{line['bytes'] / 1e6:.0f}" if "bytes" in line else "")
        for key in ("prefill_tokens_s", "decode_tokens_s"):
            cells += [f"{line[key]:.1f}", f"{line[key] / base[key]:.2f}"] if key in line and key in base else ["", ""]
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)


if __name__ == "__main__":
    main()
