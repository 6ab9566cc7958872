"""Causal models through `secateur run`: a small GPT-2 from scratch on plays, SmolLM2-135M on Wikipedia paragraphs.

    SECATEUR_DATA=… python tests/benchmarks/generators.py            # half an hour on a core; goes on where it stopped
    python tests/benchmarks/generators.py --table

The recipes gpt2-shakespeare and smollm2-wiki; SmolLM2 is judged on the first 50 paragraphs of validation and the first
100 of test. Perplexity on test is computed once more by transformers alone, in a process that cannot import Secateur,
of the dense model, of what the last round cut before it is trained, and of the last good round. The workspaces are
clones of what is committed, in .secateur/benchmarks; raw figures go to tests/benchmarks/results/generators.jsonl.
"""

import argparse
import math
import os
from pathlib import Path

import loop
import raw
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from tasks.text.tokenizers_from_text import train

RESULTS = raw.RESULTS / "generators.jsonl"
RECIPES = {"gpt2": ("gpt2-shakespeare", 128), "smollm2": ("smollm2-wiki", 256)}
"""Recipe and window by run."""
PERPLEXITY = """
import math, pandas, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
tokenizer = AutoTokenizer.from_pretrained(sys.argv[2])
longest, shared, nll, count = int(sys.argv[4]), 64, 0.0, 0
for text in pandas.read_parquet(sys.argv[3]).text:
    ids = torch.tensor([tokenizer.eos_token_id, *tokenizer(text, add_special_tokens=False).input_ids])
    done = 1
    while done < len(ids):
        start = 0 if done == 1 else done - shared
        window = ids[start : start + longest]
        with torch.no_grad():
            logits = model(input_ids=window[None]).logits[0].double()
        said = torch.log_softmax(logits[:-1], -1).gather(-1, window[1:, None])[done - start - 1 :, 0]
        nll, count, done = nll - said.sum().item(), count + len(said), start + len(window)
print(math.exp(nll / count))
"""


def main() -> None:
    """Runs what is not there yet and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", default=list(RECIPES), help="gpt2, smollm2")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as there are cores")
    given = parser.parse_args()
    for name in () if given.table else given.runs:
        if name not in loop.lines(RESULTS):
            measure(name, given.threads)
    for name, line in loop.lines(RESULTS).items():
        print(table(name, line), *samples(line), sep="\n", end="\n\n")


def measure(name: str, threads: int) -> None:
    """Runs the recipe and adds a line to the raw figures."""
    root, (recipe, longest) = loop.workspace(name), RECIPES[name]
    loop.secateur(root, recipe, [*STARTS[name](root, Path(os.environ["SECATEUR_DATA"])), f"threads={threads}"])
    line = {"run": name, **loop.outcome(root), "samples": loop.read(root / "data/evaluate/test/samples.json")}
    last = line["rounds"][-1]["round"]
    models = {"dense": "models/dense", "cut": f"models/cut/{last}", "kept": f"models/rounds/{line['kept'] or last}"}
    prepared = root / "data/prepared"
    rest = (prepared / "tokenizer", prepared / "test.examples.parquet", longest)
    line["elsewhere"] = {which: loop.elsewhere(PERPLEXITY, root / path, *rest) for which, path in models.items()}
    raw.add(RESULTS, line)


def gpt2(root: Path, data: Path) -> list[str]:
    """As params/gpt2-shakespeare.yaml says."""
    source, out = data / "tinyshakespeare", root / "gpt2-small"
    if not (out / "model.safetensors").is_file():
        tokenizer = train([(source / "train.txt").read_text()], 2048, out)
        sizes = {"vocab_size": len(tokenizer), "n_positions": 128, "n_embd": 192, "n_layer": 4, "n_head": 8}
        ends = {"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id}
        torch.manual_seed(0)
        GPT2LMHeadModel(GPT2Config(**sizes, **ends)).save_pretrained(out)
    return ["model.source=gpt2-small", f"data.source={source}"]


def smollm2(root: Path, data: Path) -> list[str]:
    """All of train, the first paragraphs of the others; nothing is quantized, see decode.py."""
    out = root / "wiki"
    out.mkdir(exist_ok=True)
    for split, count in (("train", None), ("validation", 50), ("test", 100)):
        text = (data / "wiki_paragraphs" / f"{split}.txt").read_text().splitlines()[:count]
        (out / f"{split}.txt").write_text("\n".join(text) + "\n")
    return ["data.source=wiki", "quantize.models=[]"]


STARTS = {"gpt2": gpt2, "smollm2": smollm2}


def table(name: str, line: dict) -> str:
    """One line a round, as Markdown."""
    models, again = line["models"], line["elsewhere"]
    out = [f"| {name} | verdict | parameters | perplexity, validation | test | elsewhere |", "|---" * 6 + "|"]
    states = {verdict["round"]: verdict["state"] for verdict in line["rounds"]}
    for model, facts in models.items():
        validation = math.exp(-facts["validation_quality"])
        other = again["dense"] if model == "dense" else again["kept"] if model == line["kept"] else None
        cells = [f"**{model}**" if model == line["kept"] else model, states.get(model, ""), f"{facts['parameters']:,}"]
        cells += [f"{validation:.2f}", f"{facts['metrics']['perplexity']:.2f}", f"{other:.2f}" if other else ""]
        out.append("| " + " | ".join(cells) + " |")
    out.append(f"| last round, before it is trained | | | | | {again['cut']:.2f} |")
    return "\n".join(out)


def samples(line: dict, count: int = 3) -> list[str]:
    """What dense and the last model write after the same prompts, greedily."""
    found, last = line["samples"], list(line["models"])[-1]
    out = []
    for i, prompt in enumerate(found["prompts"][:count]):
        out += ["", f"prompt: {prompt['prompt']!r}"]
        out += [f"  {model}: {found['models'][model]['greedy']['texts'][i]!r}" for model in ("dense", last)]
    return out


if __name__ == "__main__":
    main()
