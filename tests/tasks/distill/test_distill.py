import numpy as np
import pytest
from tiny import build

from tasks.core.errors import UserError
from tasks.distill import shallower
from tasks.families import family_of


def test_takes_the_layers_it_is_told(model):
    family = family_of(model.config.model_type)
    student = shallower(model, [0, 2])
    assert getattr(student.config, family.depth) == 2
    mine, its = dict(student.named_parameters()), dict(model.named_parameters())
    for name, values in mine.items():
        old = name.replace(f"{family.layers}.1.", f"{family.layers}.2.")
        np.testing.assert_array_equal(values.detach(), its[old].detach(), err_msg=name)


def test_every_second_by_default():
    assert shallower(build("bert"), None).config.num_hidden_layers == 2


def test_refuses_layers_that_are_not_there():
    with pytest.raises(UserError, match="layers 0 to 2"):
        shallower(build("bert"), [0, 5])
