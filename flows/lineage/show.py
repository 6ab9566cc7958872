"""`secateur lineage MODEL`: the chain behind a model, printed and drawn.

secateur lineage pruned-dynamic --html lineage.html --mermaid lineage.mmd
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows.lineage.chain import TEST, Chain, Node, Raw, chain
from flows.lineage.find import found
from flows.workspace import write

SHORT = 12
"""Characters of a hash that are printed; JSON and HTML have all."""


def show(root: Path, model: str, as_json: bool, html: Path | None, mermaid: Path | None) -> None:
    """Prints the chain as text or JSON, and writes the drawings that are asked for.

    Args:
        root: The workspace.
        model: As `flows.lineage.find.found` takes it.
        as_json: For programs.
        html: File for a self-contained page.
        mermaid: File for a Mermaid flowchart.
    """
    with found(root, model) as it:
        seen = chain(it)
    if html:
        from flows.lineage.page import page

        write(html, page(seen))
    if mermaid:
        write(mermaid, flowchart(seen))
    print(json.dumps(seen.as_json(), indent=2, sort_keys=True) if as_json else "\n".join(lines(seen)))


def lines(seen: Chain) -> Iterator[str]:
    """The chain in words, makers before users."""
    yield f"{seen.model} is {seen.path}"
    if seen.registered:
        aliases = ", ".join(seen.registered["aliases"]) or "no alias"
        yield f"  registered  {seen.registered['name']} version {seen.registered['version']} ({aliases})"
    for name, sha256 in seen.files.items():
        yield f"  {name:<24} sha256 {sha256}"
    for raw in seen.raw:
        yield f"raw {raw.name}: {raw.source}"
        yield f"  {_joined(md5=raw.md5, sha256=raw.sha256, rows=raw.rows)}; read by {', '.join(raw.read_by)}"
    before: str | None = None
    for node in seen.nodes:
        yield from _node(node)
        packages = f"python {node.python} " + " ".join(f"{name} {number}" for name, number in node.packages.items())
        if packages != before:
            yield f"  {packages}"
            before = packages
    if seen.measured:
        yield f"{TEST}: {_figures(seen.measured)}"
    for record in seen.decisions:
        yield f"{record['decision']} {record['id']}: {record['time']}, by {record['by']}; {record['because']}"


def _node(node: Node) -> Iterator[str]:
    yield f"{node.stage}" + (f"  <- {', '.join(node.parents)}" if node.parents else "")
    for out, hashes in node.outs.items():
        yield f"  {out}  md5 {_short(hashes['md5'])}  sha256 {_short(hashes['sha256'])}"
    if node.figures:
        yield f"  {_figures(node.figures)}"
    yield f"  {_joined(code=_short(node.code_hash), commit=_short(node.commit), seed=node.seed, device=node.device)}"
    ids = {key.partition(".")[2]: value for key, value in node.prefect.items()}
    yield f"  {_joined(mlflow=node.mlflow, **ids)}"


def flowchart(seen: Chain) -> str:
    """The chain as Mermaid."""
    stages = {node.stage: f"s{number}" for number, node in enumerate(seen.nodes)}
    text = ["flowchart TD"]
    for number, raw in enumerate(seen.raw):
        text.append(f"    d{number}[({_quoted(*caption(raw))})]")
        text += [f"    d{number} --> {stages[name]}" for name in raw.read_by if name in stages]
    for node in seen.nodes:
        text.append(f"    {stages[node.stage]}[{_quoted(*caption(node))}]")
        text += [f"    {stages[name]} --> {stages[node.stage]}" for name in node.parents]
    if seen.nodes:
        text += [f"    model([{_quoted(seen.path)}])", f"    {stages[seen.nodes[-1].stage]} --> model"]
    return "\n".join(text) + "\n"


def caption(of: Raw | Node) -> list[str]:
    """A box's few lines."""
    if isinstance(of, Raw):
        words = [f"raw {of.name}", of.source.partition("?")[0].rpartition("/")[2], f"sha256 {_short(of.sha256)}"]
        return [*words, *([f"{of.rows} rows"] if of.rows else [])]
    shown = [f"{out} {_short(hashes['sha256'])}" for out, hashes in of.outs.items()]
    simple = {key: value for key, value in of.figures.items() if key in ("state", "quality", "removed", "best_epoch")}
    return [of.stage, *shown, *([_figures(simple)] if simple else [])]


def _figures(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_value(value)}" for key, value in values.items() if value is not None)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key} {_value(inner)}" for key, inner in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _joined(**values: Any) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items() if value is not None)


def _short(digest: str | None) -> str:
    return digest[:SHORT] if digest else "not known"


def _quoted(*words: str) -> str:
    text = "<br>".join(word.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;") for word in words)
    return f'"{text}"'
