"""The vocabulary as a kind of what a round removes: once, in the round that names it, before anything else."""

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from tasks.core.errors import UserError
from tasks.prune.vocabulary import prune_vocabulary
from tasks.recipe.goal import Goal
from tasks.recipe.pruning import Prune
from tasks.text.data import Text, read_split, read_texts
from tasks.text.vocabulary import copy_tokenizer, read_vocabulary

SPLITS = ("train", "validation", "test")


def with_vocabulary(
    model: PreTrainedModel, directory: Path, prepared: Path, goal: Goal, settings: Prune, out: Path
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model with the vocabulary that it is to have after the round, and what the plan says of it.

    Tokens of all three splits count as used, so rows of each are those of the dense model in other numbers. A model
    that lost tokens before loses no more.

    Args:
        model: of the vocabulary of the checkpoint in `directory`.
        out: gets `vocabulary.json` and the tokenizer, if the vocabulary is no longer that of the data.

    Raises:
        UserError: see `prune_vocabulary`; or a token would go out of a row that cannot be encoded anew.
    """
    if read_vocabulary(directory) is not None:
        copy_tokenizer(directory, prepared, out)
        return model, {}
    if not goal.vocabulary:
        return model, {}
    texts: list[Text] = []
    rows = []
    for name in SPLITS:
        found = read_texts(prepared, name)
        texts += found or []
        if found is None or (prepared / f"{name}.examples.parquet").is_file():
            rows += read_split(prepared, name).input_ids
    done = prune_vocabulary(
        model,
        prepared / "tokenizer",
        texts,
        out,
        token_rows=rows,
        min_count=settings.vocabulary_min_count,
        size=settings.vocabulary_size,
    )
    kept = done.vocabulary.kept
    used = {int(token) for row in rows for token in row}
    if lost := used - set(kept):
        raise UserError(
            f"prune.vocabulary_size: {settings.vocabulary_size}; {len(lost)} tokens of windows or blocks of longer "
            "texts would go, and these cannot be encoded anew: set it higher, or to null"
        )
    proof = {"exact": done.proof.exact, "changed": done.proof.changed}
    return done.model, {"vocabulary": {"before": done.vocabulary.before, "after": len(kept), "proof": proof}}
