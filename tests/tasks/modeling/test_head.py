"""The head of a model class: which it is, and that no other model is imported to say so."""

import subprocess
import sys

import pytest
import transformers

from tasks.core.errors import UserError
from tasks.modeling.checkpoint import head_of, pruned_class

AUTOS = {
    "BertForSequenceClassification": "AutoModelForSequenceClassification",
    "XLNetForQuestionAnsweringSimple": "AutoModelForQuestionAnswering",
    "GPT2LMHeadModel": "AutoModelForCausalLM",
    "LlamaForCausalLM": "AutoModelForCausalLM",
}
ALONE = """
import sys
from transformers import BertForSequenceClassification
from tasks.modeling.checkpoint import head_of
head_of(BertForSequenceClassification)
print(*(name for name in sys.modules if name.rpartition(".")[2].startswith("modeling_xl")))
"""


@pytest.mark.parametrize("name", AUTOS)
def test_each_class_has_the_head_of_its_task(name: str) -> None:
    base = getattr(transformers, name)
    assert head_of(base).auto == head_of(pruned_class(base)).auto == AUTOS[name]


def test_a_model_without_a_head_is_refused() -> None:
    with pytest.raises(UserError, match="BertModel: a model without a head of a known task"):
        head_of(transformers.BertModel)


def test_no_other_model_is_imported() -> None:
    """There are more than a hundred, and to import them takes two seconds in the process of every stage."""
    said = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == ""
