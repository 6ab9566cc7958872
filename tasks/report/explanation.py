"""Why the models came out as they did: what explanation.json holds."""

from pathlib import Path
from typing import Any

from tasks.recipe.schema import Recipe
from tasks.report.agreement import agreement
from tasks.report.changed import against, changed
from tasks.report.reasons import reasons
from tasks.report.scores import mass
from tasks.report.sensitivity import sensitivity
from tasks.report.verified import verified


def explanation(recipe: Recipe, facts: dict[str, Any], data: Path, models: Path) -> dict[str, Any]:
    """What units matter, what went by which rule, how far criteria agree, and whose answers changed.

    Args:
        recipe: Its task, criterion and prune settings.
        facts: The digest of the run.
        data: The workspace's directory of that name; so is `models`.

    Returns:
        `importance` (by round and kind, each layer's share of the scores), `sensitivity` (curves, where measured),
        `removed` (by round: rules, thresholds, scores next to them, zeros, refit errors), `agreement` (rank
        correlations of criteria, or None), `changed` (examples whose answer changed, or None) and `verified` (how far
        each quantized graph is from its checkpoint).
    """
    scored, cut = data / "scores", models / "cut"
    predictions = data / "evaluate" / "test" / "predictions.parquet"
    model = against(facts["models"], facts["best"])
    return {
        "criterion": recipe.score.criterion,
        "importance": mass(scored, cut),
        "sensitivity": sensitivity(cut),
        "removed": reasons(cut, recipe.prune),
        "agreement": agreement(scored / "r1" / "compare.safetensors", recipe.prune.normalize),
        "changed": changed(recipe.task.type, facts["data"]["labels"], predictions, model),
        "verified": verified(recipe.task.type, facts["data"]["labels"], facts["models"], models.parent),
    }
