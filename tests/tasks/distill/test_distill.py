import numpy as np
import pytest
from tiny import build, uneven

from tasks.core.errors import UserError
from tasks.distill.student import shallower
from tasks.families import family_of
from tasks.modeling.shrink import shrink


def test_takes_the_layers_it_is_told(model):
    family = family_of(model.config.model_type)
    student = shallower(model, [0, 2])
    assert getattr(student.config, family.depth) == 2
    assert type(student) is type(model)
    assert not hasattr(student.config, "pruned")
    if types := getattr(model.config, "layer_types", None):
        assert student.config.layer_types == [types[0], types[2]]
    mine, its = dict(student.named_parameters()), dict(model.named_parameters())
    for name, values in mine.items():
        old = name.replace(f"{family.layers}.1.", f"{family.layers}.2.")
        np.testing.assert_array_equal(values.detach(), its[old].detach(), err_msg=name)


def test_every_second_by_default():
    assert shallower(build("bert"), None).config.num_hidden_layers == 2


def test_refuses_layers_that_are_not_there():
    with pytest.raises(UserError, match="layers 0 to 2"):
        shallower(build("bert"), [0, 5])


def test_a_pruned_model_keeps_its_record():
    model = build("bert")
    pruned = shrink(model, uneven(model))
    student = shallower(pruned, [1, 2])
    assert student.config.pruned["layers"] == [1, 2]
    assert [layer.intermediate.dense.out_features for layer in student.bert.encoder.layer] == [
        layer.intermediate.dense.out_features for layer in pruned.bert.encoder.layer[1:]
    ]
