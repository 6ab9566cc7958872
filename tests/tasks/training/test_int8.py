"""Training with the rounding of int8 computes what ONNX Runtime's int8 graph computes."""

import numpy as np
import onnx
import pytest
import torch
from course import SETTINGS, run, weights
from onnx import TensorProto, helper, numpy_helper
from tiny import TASK, build, rows
from torch import nn

from tasks.core.errors import UserError
from tasks.modeling.inference import forward, logits, open_model
from tasks.quantize.dynamic import dynamic
from tasks.quantize.graph import fused_graph
from tasks.training.extra import Extras
from tasks.training.int8 import Int8, rounded, rounded_channels
from tasks.training.loop import fit
from tasks.training.loss import supervised


def attached(model):
    extra = Int8(model)
    Extras([extra], model)
    return extra


def graph_of(linear):
    weight, bias = (numpy_helper.from_array(t.detach().t().contiguous().numpy(), n) for t, n in
                    ((linear.weight, "w"), (linear.bias, "b")))  # fmt: skip
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"], "m"), helper.make_node("Add", ["m", "b"], ["y"], "a")]
    shapes = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["r", s]) for n, s in (("x", 24), ("y", 16))]
    made = helper.make_graph(nodes, "g", shapes[:1], shapes[1:], [weight, bias])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("shift", [0.0, 3.0, -3.0])
def test_a_linear_layer_equals_the_int8_graph(shift):
    """Also for activations of one sign."""
    import onnxruntime

    torch.manual_seed(0)
    model = build("bert")
    linear = model.bert.pooler.dense = nn.Linear(24, 16)
    attached(model)
    x = torch.randn(50, 24) * torch.logspace(-1, 1, 24) / 10 + shift
    session = onnxruntime.InferenceSession(dynamic(graph_of(linear), [], "").SerializeToString())
    found = session.run(None, {"x": x.numpy()})[0]
    np.testing.assert_allclose(linear(x).detach().numpy(), found, atol=2e-5)
    assert np.abs(found - nn.functional.linear(x, linear.weight, linear.bias).detach().numpy()).max() > 1e-3


def test_weights_are_those_of_the_graph():
    model = build("bert")
    made = dynamic(fused_graph(model, pairs=False), [], "")
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    held = [name.removesuffix("_quantized") for name in tensors if name.endswith("_quantized")]
    values = {name: tensors[f"{name}_quantized"].astype(np.float64) - tensors[f"{name}_zero_point"] for name in held}
    stored = [values[name] * tensors[f"{name}_scale"] for name in held]
    modules = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Embedding)]
    assert len(stored) == len(modules)
    for module in modules:
        grid = rounded_channels if isinstance(module, nn.Linear) else rounded
        ours = grid(module.weight).detach().numpy()
        step = np.abs(ours).max() / 127
        near = [s for s in stored for t in (s, s.T) if t.shape == ours.shape and np.abs(t - ours).max() < 1e-3 * step]
        assert len(near) >= 1


def test_the_model_says_what_its_int8_graph_says(tmp_path):
    model, split = build("bert"), rows(40)
    plain = logits(forward(model), split, 8)
    onnx.save(dynamic(fused_graph(model, pairs=False), [], ""), tmp_path / "model.onnx")
    extra = attached(model)
    graph, ours = logits(open_model(tmp_path, 1), split, 8), logits(forward(model), split, 8)
    assert np.abs(ours - graph).mean() < 0.05 * np.abs(plain - graph).mean()
    extra.release()
    np.testing.assert_array_equal(logits(forward(model), split, 8), plain)


def test_gradients_pass_straight_through():
    """As if rounding were not there: with w rounded, d/dx is g w; with x rounded, d/dw is g x."""
    model = build("bert")
    linear = model.classifier
    attached(model)
    x = torch.randn(10, 32, requires_grad=True)
    g = torch.randn(10, 3)
    linear(x).backward(g)
    torch.testing.assert_close(x.grad, g @ rounded_channels(linear.weight).detach())
    torch.testing.assert_close(linear.weight.grad, g.T @ rounded(x).detach())
    assert not torch.equal(rounded_channels(linear.weight), linear.weight)


def test_what_learned_with_it_loses_less(tmp_path):
    """Loss in int8 on the rows that were learned, against plain training; matrices have a column of outliers."""
    split, lost = rows(44), {}
    for name in ("plain", "aware"):
        model = build("bert")
        with torch.no_grad():
            for layer in model.bert.encoder.layer:
                layer.output.dense.weight[:, 0] = 100.0
        extra, objective = Int8(model), supervised(TASK, split)
        settings = SETTINGS.model_copy(update={"epochs": 20, "learning_rate": 2e-3})
        extras = [extra] if name == "aware" else []
        fit(model, split, split, settings, objective, TASK, "accuracy", 0, tmp_path / name, extras)
        if name == "plain":
            attached(model)
        said = torch.from_numpy(logits(forward(model), split, 44))
        lost[name] = nn.functional.cross_entropy(said, torch.from_numpy(split.labels)).item()
    assert lost["aware"] < 0.5 * lost["plain"]


def test_it_goes_on_as_if_unbroken(tmp_path, monkeypatch):
    """Bit by bit, from a checkpoint in the middle of an epoch."""
    whole = build("bert")
    run(tmp_path / "whole", [Int8(whole)], model=whole)
    model, steps = build("bert"), []

    class Cut(Int8):
        def after_step(self, step, total):
            steps.append(step)
            if len(steps) == 5:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", [Cut(model)], model=model)
    again = build("bert")
    run(tmp_path / "cut", [Int8(again)], model=again)
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(again)[name])


def test_models_without_a_graph_are_refused():
    with pytest.raises(UserError, match=r"gpt2: int8 graphs are made of bert, distilbert, electra, roberta"):
        Int8(build("gpt2"))
