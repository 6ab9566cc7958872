"""Architecture families, by the `model_type` of their Hugging Face config."""

from tasks.core.errors import UserError
from tasks.families.anatomy import Family
from tasks.families.bert import BERT, ELECTRA, ROBERTA
from tasks.families.distilbert import DISTILBERT
from tasks.families.gpt2 import GPT2
from tasks.families.gpt_neox import GPT_NEOX
from tasks.families.llama import GEMMA, GEMMA2, GEMMA3, LLAMA, MISTRAL, QWEN2, QWEN3
from tasks.families.opt import OPT
from tasks.families.xlnet import XLNET

FAMILIES = {
    family.model_type: family
    for family in (
        *(BERT, ROBERTA, ELECTRA, DISTILBERT, XLNET),
        *(GPT2, GPT_NEOX, OPT, LLAMA, MISTRAL, QWEN2, QWEN3, GEMMA, GEMMA2, GEMMA3),
    )
}


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
