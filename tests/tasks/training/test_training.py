"""Training: exact resume, parts and processes that add up, losses that equal their formulas (invariants 6 and 7)."""

import numpy as np
import pytest
import torch
from tiny import TASK, build, rows
from transformers.utils import ModelOutput

from tasks.core.files import read_json, tree_hash, write_json
from tasks.modeling.checkpoint import load, save
from tasks.recipe.load import resolve
from tasks.text.classification import class_weights
from tasks.training import loop
from tasks.training.launch import launch
from tasks.training.loop import fit
from tasks.training.loss import cached, distillation, supervised
from tasks.training.schedule import epoch_batches, learning_rate

SETTINGS = resolve(None, []).train.model_copy(
    update={"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "precision": "fp32", "checkpoint_steps": 3}
)


def train(scratch, settings=SETTINGS, seed=0, family="bert", objective=None):
    scratch.mkdir(exist_ok=True)
    model = build(family)
    split = rows(44)
    objective = objective or supervised(TASK, split)
    history = fit(model, split, rows(20, seed=1), settings, objective, TASK, "accuracy", seed, scratch)
    return model, history


def weights(model):
    return {name: parameter.detach().numpy().copy() for name, parameter in model.named_parameters()}


def assert_equal(a, b, **tolerance):
    for name, values in a.items():
        if tolerance and name.endswith("key.bias"):
            continue  # softmax does not see it: its gradient is rounding alone, which Adam scales up
        np.testing.assert_allclose(values, b[name], err_msg=name, **(tolerance or {"rtol": 0, "atol": 0}))


def test_learns_and_repeats(tmp_path):
    longer = SETTINGS.model_copy(update={"epochs": 16})
    model, history = train(tmp_path / "a", longer)
    again, _ = train(tmp_path / "b", longer)
    assert history.step == 96
    assert history.curve[-1]["loss"] < 0.6 * history.curve[0]["loss"]
    assert_equal(weights(model), weights(again))
    other, _ = train(tmp_path / "c", longer, seed=1)
    assert any((weights(other)[name] != values).any() for name, values in weights(model).items())


@pytest.mark.parametrize("stop", [2, 4, 7, 11])
def test_resumes_exactly(tmp_path, monkeypatch, stop):
    """Cut off at any step, it ends with the weights of an unbroken run; dropout makes the random state matter."""

    def dropping(seed=0):
        torch.manual_seed(seed)
        model = build("bert")
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.2
        return model

    def run(scratch):
        scratch.mkdir(exist_ok=True)
        model = dropping()
        split = rows(44)
        objective = supervised(TASK, split)
        history = fit(model, split, rows(20, seed=1), SETTINGS, objective, TASK, "accuracy", 0, scratch)
        return model, history

    unbroken, expected = run(tmp_path / "unbroken")
    calls = 0

    def counted(*arguments):
        nonlocal calls
        calls += 1
        if calls > stop:
            raise KeyboardInterrupt
        return learning_rate(*arguments)

    monkeypatch.setattr(loop, "learning_rate", counted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut")
    monkeypatch.undo()
    resumed, history = run(tmp_path / "cut")
    assert_equal(weights(unbroken), weights(resumed))
    assert history == expected


def test_accumulation_adds_up(tmp_path):
    whole, _ = train(tmp_path / "whole")
    parts, _ = train(tmp_path / "parts", SETTINGS.model_copy(update={"accumulate": 4}))
    assert_equal(weights(whole), weights(parts), rtol=1e-3, atol=1e-4)


def test_cut_off_before_the_validation_of_a_part_of_an_epoch(tmp_path, monkeypatch):
    settings = SETTINGS.model_copy(update={"epochs": 4 / 6, "checkpoint_steps": 2})
    unbroken, expected = train(tmp_path / "unbroken", settings)
    assert expected.step == 4
    with monkeypatch.context() as patch:
        patch.setattr("tasks.training.loop._end_epoch", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(tmp_path / "cut", settings)
    model, history = train(tmp_path / "cut", settings)
    assert history.validation == expected.validation
    assert_equal(weights(model), weights(unbroken))


def _in_processes(scratch, settings, out):
    """A process of a data-parallel training; see the test below."""
    model = build("bert")
    split = rows(44)
    history = fit(model, split, rows(20, seed=1), settings, supervised(TASK, split), TASK, "accuracy", 0, scratch)
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        save(model, out)
        write_json(out / "history.json", [history.curve, history.validation])


def test_two_processes_equal_one(tmp_path):
    settings = SETTINGS.model_copy(update={"class_weights": True})
    for count in (1, 2):
        (tmp_path / f"scratch{count}").mkdir()
        launch(_in_processes, tmp_path / f"scratch{count}", settings, tmp_path / f"out{count}", processes=count)
    assert_equal(weights(load(tmp_path / "out1")), weights(load(tmp_path / "out2")), rtol=1e-3, atol=1e-4)
    one, two = (read_json(tmp_path / f"out{count}" / "history.json") for count in (1, 2))
    np.testing.assert_allclose([e["loss"] for e in one[0]], [e["loss"] for e in two[0]], rtol=1e-4)
    assert [entry["quality"] for entry in one[1]] == [entry["quality"] for entry in two[1]]


def test_stops_early_and_keeps_the_best(tmp_path):
    settings = SETTINGS.model_copy(update={"epochs": 30, "patience": 2, "learning_rate": 5e-3})
    model, history = train(tmp_path / "a", settings)
    qualities = [entry["quality"] for entry in history.validation]
    assert len(qualities) < 30
    assert history.best() == int(np.argmax(qualities))
    assert len(qualities) == history.best() + 3
    shorter, _ = train(tmp_path / "b", settings)
    assert_equal(weights(model), weights(shorter))


def test_freezes_embeddings_and_thaws_them(tmp_path):
    before = weights(build("bert"))
    model, _ = train(tmp_path / "a", SETTINGS.model_copy(update={"freeze_embeddings": True}))
    name = "bert.embeddings.word_embeddings.weight"
    np.testing.assert_array_equal(weights(model)[name], before[name])
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_distillation_is_its_formula():
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(6, 3, generator=generator), torch.randn(10, 3, generator=generator)
    chosen, labels = np.array([7, 0, 3, 9, 1, 2]), np.array([0, 1, 2, 1, 0, 2])
    split = rows(10)
    split.labels[chosen] = labels

    def softmax(values):
        powers = np.exp(values - values.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)

    for temperature, alpha in ((1.0, 0.0), (2.0, 0.5), (4.0, 0.3)):
        p = softmax(teacher.double().numpy()[chosen] / temperature)
        q = softmax(student.double().numpy() / temperature)
        soft = (p * (np.log(p) - np.log(q))).sum(-1)
        hard = -np.log(softmax(student.double().numpy()))[np.arange(6), labels]
        objective = distillation(TASK, split, cached(teacher), temperature, alpha)
        found = objective(ModelOutput(logits=student), chosen)
        np.testing.assert_allclose(found.numpy(), alpha * hard + (1 - alpha) * temperature**2 * soft, rtol=1e-5)


def test_alpha_one_is_plain_training(tmp_path):
    teacher = torch.randn(44, 3)
    plain, _ = train(tmp_path / "a")
    taught, _ = train(tmp_path / "b", objective=distillation(TASK, rows(44), cached(teacher), 2.0, 1.0))
    assert_equal(weights(plain), weights(taught))


def test_every_row_once_an_epoch():
    lengths = np.random.default_rng(0).integers(3, 50, 101)
    first, second = epoch_batches(lengths, 8, 0, 0), epoch_batches(lengths, 8, 0, 1)
    assert sorted(np.concatenate(first)) == list(range(101))
    assert [list(batch) for batch in first] != [list(batch) for batch in second]
    assert np.mean([np.ptp(lengths[batch]) for batch in first]) < 8


def test_learning_rate_rises_and_falls():
    rates = [learning_rate(step, 100, 1.0, 0.1) for step in range(100)]
    assert max(rates) == rates[9] == 1.0
    assert rates[0] == pytest.approx(0.1)
    assert rates[-1] == pytest.approx(1 / 90)
    assert learning_rate(0, 10, 1.0, 0.0) == 1.0


def test_class_weights():
    labels = np.array([0, 0, 0, 1])
    np.testing.assert_allclose(class_weights(labels), [4 / 6, 2.0])


def test_unfinished_state_is_not_used(tmp_path):
    """A directory of one process only, of two: the training starts anew."""
    train(tmp_path / "a")
    assert tree_hash(tmp_path / "a" / "state" / "process-0")
    from tasks.training.state import load_state

    model = build("bert")
    assert load_state(tmp_path / "a" / "state", model, torch.optim.AdamW(model.parameters()), 0, 2).step == 0
