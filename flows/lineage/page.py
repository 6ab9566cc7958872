"""The chain behind a model as one self-contained page: a drawing, and below it all that the records say."""

from typing import NamedTuple

import networkx
from jinja2 import Environment, PackageLoader, StrictUndefined

from flows.lineage.chain import Chain, Node, Raw
from flows.lineage.show import caption

WIDTH, HEIGHT, GAP, LINE = 250, 88, 34, 17
"""Of a box, between two, of a line of text; px."""
LONGEST = 34
"""Characters that a box has room for."""


class Box(NamedTuple):
    """A rectangle with its lines of text."""

    name: str
    x: int
    y: int
    lines: list[str]
    raw: bool


def page(seen: Chain) -> str:
    """HTML with an SVG of the chain; nothing is fetched when it is opened."""
    boxes = layout(seen)
    at = {box.name: box for box in boxes}
    environment = Environment(loader=PackageLoader("flows.lineage", "."), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("page.html").render(
        chain=seen,
        boxes=boxes,
        edges=[(_middle(at[tail], HEIGHT), _middle(at[tip], 0)) for tail, tip in _graph(seen).edges],
        width=max(box.x for box in boxes) + WIDTH + GAP,
        height=max(box.y for box in boxes) + HEIGHT + GAP,
        size=(WIDTH, HEIGHT, LINE),
    )


def layout(seen: Chain) -> list[Box]:
    """A row for each generation: what a box comes from is above it."""
    content: dict[str, Raw | Node] = {f"raw {raw.name}": raw for raw in seen.raw}
    content |= {node.stage: node for node in seen.nodes}
    boxes = []
    for row, generation in enumerate(networkx.topological_generations(_graph(seen))):
        for column, name in enumerate(generation):
            x, y = GAP + column * (WIDTH + GAP), GAP + row * (HEIGHT + GAP)
            lines = [line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…" for line in caption(content[name])]
            boxes.append(Box(name, x, y, lines[: HEIGHT // LINE], isinstance(content[name], Raw)))
    return boxes


def _graph(seen: Chain) -> networkx.DiGraph:
    graph = networkx.DiGraph()
    graph.add_nodes_from([f"raw {raw.name}" for raw in seen.raw])
    graph.add_nodes_from(node.stage for node in seen.nodes)
    graph.add_edges_from((f"raw {raw.name}", name) for raw in seen.raw for name in raw.read_by)
    graph.add_edges_from((parent, node.stage) for node in seen.nodes for parent in node.parents)
    return networkx.transitive_reduction(graph)


def _middle(box: Box, down: int) -> tuple[int, int]:
    return box.x + WIDTH // 2, box.y + down
