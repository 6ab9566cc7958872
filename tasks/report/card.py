"""Model cards: what a model that is handed over reaches, what it was made from, and how any program loads it.

The header is that of the Hugging Face Hub: https://huggingface.co/docs/hub/model-cards.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from tasks.core.files import file_hash, read_json, write_json
from tasks.recipe.schema import Recipe
from tasks.report import words

HUB = "hf://"
PIPELINE_TAGS = {
    "classification": "text-classification",
    "multilabel": "text-classification",
    "qa": "question-answering",
    "generation": "text-generation",
}
"""What the hub calls a type of task."""
SECTIONS = {
    "classification": "classification.md",
    "multilabel": "classification.md",
    "qa": "qa.md",
    "generation": "generation.md",
}
"""Template that says how a model of a type of task is loaded."""
CARD, PROVENANCE = "README.md", "provenance.json"
WEIGHTS = ("model.onnx", "model.safetensors")


def write_cards(recipe: Recipe, facts: Mapping[str, Any], root: Path, out: Path) -> None:
    """Writes a directory for every model of the run: its card, and the records of all that it was made from.

    Args:
        recipe: of the run.
        facts: the digest of the run, with its `lineage`.
        root: the workspace.
        out: gets the directories, each under the name of its model.
    """
    checkpoints = {model["path"]: model for model in facts["models"]}
    for model in facts["models"]:
        source = checkpoints[model["checkpoint"]]
        entries = ancestry(facts["lineage"], model["path"], model["checkpoint"])
        records = [{**read_json(root / entry["out"] / PROVENANCE), "sha256": entry["sha256"]} for entry in entries]
        directory = out / model["name"]
        directory.mkdir(parents=True)
        write_json(directory / PROVENANCE, records)
        (directory / CARD).write_text(card(recipe, facts, model, source, entries, root), encoding="utf-8")


def card(
    recipe: Recipe, facts: Mapping[str, Any], model: Mapping[str, Any], source: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]], root: Path,
) -> str:  # fmt: skip
    """The card of `model`, whose weights are those of the checkpoint `source` or a graph made of it.

    Args:
        recipe: of the run.
        facts: the digest of the run.
        model: an entry of `facts["models"]`; so is `source`, which is the same for a model in PyTorch.
        source: see above.
        entries: the lineage of `model`, see `ancestry`.
        root: the workspace; weights are read there for their hashes.
    """
    compared = {row["name"]: row for row in (facts["models"][0], source, model)}
    files = {name: root / one["path"] / name for name, one in zip(WEIGHTS, (model, source), strict=True)}
    verified = root / model["path"] / "verified.json"
    environment = _environment()
    return environment.get_template("card.md").render(
        header=_header(recipe, facts, model),
        facts=facts,
        model=model,
        source=source,
        rows=list(compared.values()),
        what=_what(recipe, facts, model, source),
        measured=next(entry for entry in facts["lineage"] if entry["out"] == "data/times/test"),
        verified=read_json(verified) if verified.is_file() else None,
        lineage=entries,
        files={name: file_hash(path) for name, path in files.items() if path.is_file()},
        began=recipe.model.source,
        loading=loading(recipe, graph=model["format"] == "onnx"),
    )


def loading(recipe: Recipe, *, graph: bool) -> str:
    """Markdown with the code that loads a model of the recipe's task and asks it something.

    Args:
        recipe: its task and data.
        graph: whether there is a `model.onnx` too.
    """
    task = recipe.task
    return (
        _environment()
        .get_template(SECTIONS[task.type])
        .render(
            graph=graph,
            multilabel=task.type == "multilabel",
            pair=recipe.data.text_pair is not None,
            length=task.max_length,
            stride=task.doc_stride,
            answer=task.max_answer,
            no_answer=task.no_answer,
            new=recipe.evaluate.new_tokens,
        )
    )


def ancestry(lineage: Sequence[Mapping[str, Any]], path: str, checkpoint: str) -> list[Mapping[str, Any]]:
    """The entries of the lineage that the model at `path` was made from, its own last, makers before users.

    An input that stands for several outs, such as `models/rounds`, counts for the one that `checkpoint` lies in.
    """
    known = {entry["out"]: entry for entry in lineage}

    def outs(read: str) -> Iterator[str]:
        whole = [out for out in known if f"{read}/".startswith(f"{out}/")]
        parts = [out for out in known if out.startswith(f"{read}/") and f"{checkpoint}/".startswith(f"{out}/")]
        yield from whole or parts

    found: set[str] = set()
    waiting = list(outs(path))
    while waiting:
        out = waiting.pop()
        if out not in found:
            found.add(out)
            waiting += [other for item in known[out]["inputs"] for other in outs(item["path"])]
    return [entry for entry in lineage if entry["out"] in found]


def _environment() -> Environment:
    environment = Environment(  # noqa: S701 - a card is Markdown
        loader=PackageLoader("tasks.report", "cards"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": words.number,
        "signed": words.signed,
        "scaled": words.scaled,
        "milliseconds": words.milliseconds,
        "figure": words.figure,
        "title_of": words.title,
        "limit_of": words.limit,
        "reached_of": words.reached,
    }
    return environment


def _header(recipe: Recipe, facts: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    """The YAML between two lines of dashes."""
    tag, data = PIPELINE_TAGS[recipe.task.type], facts["data"]["source"]["uri"]
    figures = {facts["metric"]: model["quality"], **(model.get("metrics") or {})}
    results = [
        EvalResult(tag, data, data, name, value, dataset_split="test") for name, value in sorted(figures.items())
    ]
    base, method = model["name"].partition("-")[::2]
    made = [] if base == "dense" else ["distilled" if base == "student" else "pruned"]
    known = ModelCardData(
        library_name="onnx" if method else "transformers",
        pipeline_tag=tag,
        base_model=_on_hub(recipe.model.source),
        datasets=_on_hub(data),
        metrics=sorted(figures),
        tags=["secateur", *made, *([method] if method else [])],
        model_name=f"{recipe.name}-{model['name']}",
        eval_results=results,
    )
    return f"---\n{known.to_yaml()}\n---"


def _on_hub(source: str) -> str | None:
    """The name that the hub knows a source by, if it is from there."""
    return source.removeprefix(HUB).partition("@")[0] if source.startswith(HUB) else None


def _what(recipe: Recipe, facts: Mapping[str, Any], model: Mapping[str, Any], source: Mapping[str, Any]) -> str:
    """One paragraph: what the model is for and what was done to it."""
    dense = facts["models"][0]
    labels = facts["data"]["labels"]
    task = f"{recipe.task.type} ({', '.join(labels)})" if labels else recipe.task.type
    share = f"{100 * source['parameters'] / dense['parameters']:.0f} %"
    made = {"dense": "the dense model, fine-tuned", "student": f"a student of the dense model with {share} of its size"}
    what = made.get(source["name"], f"the dense model pruned in rounds, up to {source['name']}, to {share} of its size")
    graph = f", as an ONNX graph by the method `{model['name'].partition('-')[2]}`" if model["format"] == "onnx" else ""
    return f"A model for {task}: {what}{graph}. Made by Secateur, recipe `{recipe.name}`."
