"""Architecture families, by the `model_type` of their Hugging Face config."""

from tasks.core.errors import UserError
from tasks.families.anatomy import Family
from tasks.families.bert import BERT, ROBERTA
from tasks.families.distilbert import DISTILBERT

FAMILIES = {family.model_type: family for family in (BERT, ROBERTA, DISTILBERT)}


def family_of(model_type: str) -> Family:
    """The family of a config's `model_type`.

    Raises:
        UserError: the architecture is unknown.
    """
    try:
        return FAMILIES[model_type]
    except KeyError:
        raise UserError(
            f"model_type {model_type!r} is not one that Secateur can prune; known: {', '.join(sorted(FAMILIES))}. "
            "A new one is a file in tasks/families/ and a line in its registry (CONTRIBUTING.md)."
        ) from None
