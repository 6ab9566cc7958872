"""Removes the least important units, physically, and writes down which and why."""

from pathlib import Path

from safetensors.torch import load_file

from tasks.core.files import write_json
from tasks.families import family_of
from tasks.modeling.checkpoint import load, save
from tasks.modeling.shrink import dense_counts, shrink
from tasks.prune.plan import choose, targets
from tasks.recipe.schema import Prune


def prune(model: Path, scores: Path, number: int, settings: Prune, out: Path) -> None:
    """Writes the checkpoint without the units of round `number` (from 0), and `plan.json`.

    Args:
        model: the checkpoint that was scored.
        scores: out of the score stage.
        out: gets the checkpoint and the plan: for each layer and kind the units of the dense model that stay, those
            this round removed, and the score of each of the latter.
    """
    source = load(model)
    importance = load_file(scores / "scores.safetensors")
    family = family_of(source.config.model_type)
    groups = family.groups(source)
    align = {kind.name: settings.align if kind.aligned else 1 for kind in family.kinds}
    dense = dense_counts(source)
    ratios: dict[str, float] = {kind: settings.ratio(number, kind) for kind in settings.kinds}
    keep = targets(dense, ratios)
    kept: dict[str, list[list[int]]] = {}
    thresholds: dict[str, float | None] = {}
    for kind in dense:
        layers = [importance[f"{kind}.{group.layer}"] for group in groups if group.kind == kind]
        if kind in settings.kinds:
            choice = choose(layers, keep[kind], align[kind], settings.scope, settings.normalize)
            kept[kind], thresholds[kind] = choice.kept, choice.threshold
        else:
            kept[kind], thresholds[kind] = [list(range(len(layer))) for layer in layers], None
    smaller = shrink(source, kept)
    save(smaller, out)
    before = getattr(source.config, "pruned", None)
    entries = []
    for group in groups:
        layer = str(group.layer)
        left = smaller.config.pruned["kept"][group.kind][layer]
        had = before["kept"][group.kind][layer] if before else list(range(group.count))
        score = dict(zip(had, importance[f"{group.kind}.{layer}"].tolist(), strict=True))
        removed = [unit for unit in had if unit not in set(left)]
        entries.append(
            {
                "layer": group.layer,
                "kind": group.kind,
                "before": dense[group.kind][group.layer],
                "kept": left,
                "removed": removed,
                "removed_scores": [score[unit] for unit in removed],
            }
        )
    plan = {"ratios": ratios, "scope": settings.scope, "threshold": thresholds, "groups": entries}
    write_json(out / "plan.json", plan)
