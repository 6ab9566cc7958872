"""What each round removed and by which rule, from the plans that the prune stage left."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.core.files import read_json
from tasks.recipe.outcome import round_number
from tasks.recipe.pruning import ALONG, COSTS, PER_ROW, Prune

SUBLAYER = {"head": "attention", "kv_group": "attention", "neuron": "ffn"}
"""Where units lie: they go with it."""
NUMBER = re.compile(r"\.(\d+)(?=\.|$)")
"""The layer in the name of a matrix."""


def plans(cut: Path) -> list[tuple[str, dict[str, Any]]]:
    """Name and plan.json of each round that removed something, in order."""
    paths = sorted(cut.glob("[!.]*/plan.json"), key=lambda path: (round_number(path.parent.name), path))
    return [(path.parent.name, read_json(path)) for path in paths]


def reasons(cut: Path, settings: Prune) -> list[dict[str, Any]]:
    """Of each round: goal, criterion, rule and threshold by kind, what went of each layer, zeros and refit errors.

    `lowest_kept` and `highest_removed` are in what the rule compares: the mean score of a block of units, divided by
    `divisor`. Of the kinds in `scored` the threshold is a score and lies between them; of others it is a loss, or none.
    """
    found = []
    for name, plan in plans(cut):
        kinds = dict.fromkeys(group["kind"] for group in plan["groups"])
        groups = [
            {
                **{key: group[key] for key in ("layer", "kind", "divisor", "lowest_kept", "highest_removed")},
                "dense": group["before"],
                "kept": len(group["kept"]),
                "removed": len(group["removed"]),
            }
            for group in plan["groups"]
        ]
        found.append(
            {
                "round": name,
                **{key: plan[key] for key in ("goal", "criterion", "allocation", "unselected", "threshold")},
                "compared": compared(plan, settings.normalize),
                "scored": [kind for kind in kinds if by_score(plan, kind)],
                "rules": _vocabulary_rule(plan)
                | {kind: rule(plan, kind) for kind in kinds}
                | _weights_rule(plan, settings),
                "groups": groups,
                "weights": [
                    {**entry, "matrix": renumbered(entry["matrix"], plan["layers"])} for entry in plan["weights"]
                ],
                "errors": [
                    {
                        "layer": layer_of(matrix, plan["layers"]),
                        "matrix": renumbered(matrix, plan["layers"]),
                        "lost": lost,
                    }
                    for matrix, lost in plan["errors"].items()
                ],
            }
        )
    return found


def left(cut: Path) -> list[dict[str, Any]]:
    """For each round that removed something: units kept and total, by kind and layer.

    What lies in a layer or sublayer that went is gone with it.
    """
    found: list[dict[str, Any]] = []
    totals: dict[tuple[str, int], int] = {}
    for name, plan in plans(cut):
        kept = {(group["kind"], group["layer"]): len(group["kept"]) for group in plan["groups"]}
        totals |= {(group["kind"], group["layer"]): group["before"] for group in plan["groups"]}
        for layer in dict.fromkeys(matrix["layer"] for matrix in plan["weights"]):
            mine = [matrix for matrix in plan["weights"] if matrix["layer"] == layer]
            kept["weight", layer] = sum(matrix["kept"] for matrix in mine)
            totals.setdefault(("weight", layer), sum(matrix["before"] for matrix in mine))
        gone = {place for place, count in kept.items() if not count} | {p for p in totals if p not in kept}
        before = found[-1]["layers"] if found else []
        was = {(group["kind"], group["layer"]): group["kept"] for group in before}
        silent = {kind for kind, _ in totals} - {kind for kind, _ in kept}
        kinds, layers = list(dict.fromkeys(kind for kind, _ in totals)), []
        for (kind, layer), total in sorted(totals.items(), key=lambda item: (kinds.index(item[0][0]), item[0][1])):
            lost = any((part, layer) in gone for part in ("layer", SUBLAYER.get(kind))) and kind != "width"
            count = was.get((kind, layer), 0) if kind in silent else kept.get((kind, layer), 0)
            layers.append({"layer": layer, "kind": kind, "kept": 0 if lost else count, "total": total})
        found.append({"round": name, **{key: plan[key] for key in ("allocation", "threshold")}, "layers": layers})
    return found


def by_score(plan: Mapping[str, Any], kind: str) -> bool:
    """Whether the threshold of a kind is one of scores (of an allocation by sensitivity it is a loss)."""
    return plan["threshold"].get(kind) is not None and (
        plan["allocation"] != "sensitivity" or "threshold" in _amount(plan, kind)
    )


def compared(plan: Mapping[str, Any], normalized: bool) -> str:
    """In words, what thresholds are compared with."""
    score = "score / layer norm" if normalized else "score"
    return next((f"{score} / {cost} of a unit" for cost in COSTS if cost in plan["goal"]), score)


def rule(plan: Mapping[str, Any], kind: str) -> str:
    """In words, which units of a kind go."""
    if not any(cost in plan["goal"] for cost in COSTS) and kind not in plan["goal"]:
        return "none was to go in this round"
    threshold = plan["threshold"].get(kind)
    if "threshold" in _amount(plan, kind):
        return f"what scores below {threshold:.4g} goes, as the recipe says"
    return {
        "uniform": "the same share of every layer goes, the lowest scores first",
        "global": "one ranking over all layers: the lowest go"
        + (f", here those below {threshold:.4g}" if threshold is not None else ""),
        "sensitivity": "the lowest of each layer go, as long as it adds no more than the same measured loss"
        + (f", here {threshold:.4g}" if threshold is not None else ""),
        "solve": "the lowest of each layer go, as many as make the smallest sum of measured losses",
    }[plan["allocation"]]


def layer_of(name: str, layers: Sequence[int] | None) -> int:
    """The dense model's number of the layer that a group (head.3) or a matrix belongs to.

    Args:
        layers: of a plan; None: the numbers are the dense model's.
    """
    found = NUMBER.search(name)
    number = int(found[1]) if found else 0
    return number if layers is None else layers[number]


def renumbered(matrix: str, layers: Sequence[int]) -> str:
    """A matrix's name with the dense model's number of its layer."""
    return NUMBER.sub(lambda found: f".{layers[int(found[1])]}", matrix, count=1)


def _amount(plan: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    amount = plan["goal"].get(kind)
    return amount if isinstance(amount, dict) else {}


def _vocabulary_rule(plan: Mapping[str, Any]) -> dict[str, str]:
    if "vocabulary" not in plan:
        return {}
    before, after = plan["vocabulary"]["before"], plan["vocabulary"]["after"]
    return {"vocabulary": f"of {before} tokens those go that the data do not use, or too rarely; {after} stay"}


def _weights_rule(plan: Mapping[str, Any], settings: Prune) -> dict[str, str]:
    if not plan["weights"]:
        return {}
    amount = _amount(plan, "weight")
    if "threshold" in amount:
        return {"weight": f"what scores {amount['threshold']:.4g} or less goes, as the recipe says"}
    if plan["criterion"] in ALONG and settings.reconstruct and plan["unselected"] == "remove":
        return {
            "weight": "chosen column by column while the others are updated, so the first scores say it only roughly"
        }
    if "pattern" in amount:
        kept, every = amount["pattern"]
        return {"weight": f"of every {every} consecutive inputs the {kept} highest stay"}
    where = "output of a matrix" if plan["criterion"] in PER_ROW else "matrix"
    return {"weight": f"the lowest of each {where} go, the same share of every one"}
