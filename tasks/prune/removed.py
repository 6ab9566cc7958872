"""What a round removes and why, in the numbers of the dense model: for the plan that it leaves."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from tasks.families import family_of
from tasks.modeling.matrices import matrices
from tasks.modeling.shrink import chosen, dense_counts, dense_layers
from tasks.prune.plan import Plan


def removed_units(model: PreTrainedModel, scores: Mapping[str, Tensor], plan: Plan) -> list[dict[str, Any]]:
    """Of each group that was up for pruning: what stays, what goes and its scores, and its `Margin`."""
    dense, layers = dense_counts(model), dense_layers(model)
    before = (getattr(model.config, "pruned", None) or {}).get("kept", {})
    entries = []
    for group, units in chosen(family_of(model.config.model_type), model, plan.kept):
        if group.kind not in plan.kept:
            continue
        layer = layers[group.layer]
        names = before.get(group.kind, {}).get(str(layer)) or list(range(group.count))
        gone = [unit for unit in range(group.count) if unit not in set(units)]
        entries.append(
            {
                "name": group.name,
                "layer": layer,
                "kind": group.kind,
                "before": dense[group.kind][layer],
                "kept": [names[unit] for unit in units],
                "removed": [names[unit] for unit in gone],
                "removed_scores": scores[group.name][gone].tolist(),
                **asdict(plan.margins[group.name]),
            }
        )
    return entries


def removed_weights(
    model: PreTrainedModel, masks: Mapping[str, Tensor], scores: Mapping[str, Tensor]
) -> list[dict[str, Any]]:
    """Of each matrix of `model`: how many of its weights there are and stay, and the scores next to the limit.

    Args:
        masks: by matrix, the weights that stay, shape (outputs, inputs).
        scores: importance of single weights, by "weight." and the matrix.
    """
    layers, entries = dense_layers(model), []
    for matrix in matrices(model):
        mask = masks[matrix.tensor]
        values = matrix.unfold(scores[f"weight.{matrix.tensor}"]).to(mask.device)
        kept, gone = values[mask], values[~mask]
        entries.append(
            {
                "layer": layers[matrix.layer],
                "matrix": matrix.tensor,
                "before": mask.numel(),
                "kept": kept.numel(),
                "lowest_kept": float(kept.min()) if kept.numel() else None,
                "highest_removed": float(gone.max()) if gone.numel() else None,
            }
        )
    return entries
