"""Distillation from layers: each loss is its formula; training along resumes exactly and adds up over processes."""

import numpy as np
import pytest
import torch
from course import SETTINGS
from tiny import TASK, build, rows, uneven
from torch.nn.functional import softmax
from transformers import BertConfig, BertForSequenceClassification

from tasks.core.errors import UserError
from tasks.core.files import write_json
from tasks.families import family_of
from tasks.modeling.checkpoint import load, save
from tasks.modeling.shrink import shrink
from tasks.training import loop
from tasks.training.launch import launch
from tasks.training.layer_map import fixed, numbers
from tasks.training.layers import FLOOR, MODULE, LayerDistillation, attention_loss, hidden_loss
from tasks.training.loop import fit
from tasks.training.loss import cached, distillation, joint, supervised
from tasks.training.schedule import learning_rate

LENGTHS = np.array([5, 3, 7])


def live():
    return torch.from_numpy((np.arange(7) < LENGTHS[:, None]).astype(np.float32))


def naive_hidden(student, teacher, lengths):
    """float64, row by row, token by token."""
    out = []
    for s, t, n in zip(student.double().numpy(), teacher.double().numpy(), lengths, strict=True):
        each = [((s[i] - t[i]) ** 2).mean() for i in range(n)]
        out.append(np.mean(each) / t[:n].var())
    return np.array(out)


def naive_attention(student, teacher, lengths):
    out = []
    for s, t, n in zip(student.double().numpy(), teacher.double().numpy(), lengths, strict=True):
        each = [sum(t[i, j] * np.log(t[i, j] / max(s[i, j], FLOOR)) for j in range(n) if t[i, j] > 0) for i in range(n)]
        out.append(np.mean(each))
    return np.array(out)


def small_bert(seed=5, width=24, layers=2, dropout=0.0):
    """A student of another width, depth and number of heads."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=60, hidden_size=width, num_hidden_layers=layers, num_attention_heads=3, intermediate_size=40,
        max_position_embeddings=40, num_labels=3, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    return BertForSequenceClassification(config).eval()


def distiller(teacher, split, **changes):
    options = {"hidden": 1.0, "attention": 1.0, "layer_map": "uniform", "pruned": False, "bf16": False, **changes}
    return LayerDistillation(teacher, split, **options)


def attached(student, extra):
    """`extra` on the student, which is put into training mode."""
    groups = family_of(student.config.model_type).groups(student)
    optimized = extra.attach(student, dict(student.named_parameters(remove_duplicate=False)), groups)
    student.train()
    return optimized


def tensors(split, chosen):
    return {name: torch.from_numpy(array) for name, array in split.batch(chosen).items()}


def seen(model, batch):
    """Layer outputs and means of attention over heads, read off in another way than the code under test does."""
    family = family_of(model.config.model_type)
    outputs = []
    handles = [
        layer.register_forward_hook(lambda _, __, o: outputs.append(o[0] if isinstance(o, tuple) else o))
        for layer in model.get_submodule(family.layers)
    ]
    model.set_attn_implementation("eager")
    with torch.no_grad():
        said = model(**batch, output_attentions=True, output_hidden_states=True)
    for handle in handles:
        handle.remove()
    outputs = [o.transpose(0, 1) if family.time_major else o for o in outputs]
    for ours, theirs in zip(outputs[:-1], said.hidden_states[1:], strict=False):
        torch.testing.assert_close(ours, theirs)  # batch-major, as transformers gives them
    return outputs, [a.mean(1) for a in said.attentions]


def test_hidden_loss_is_its_formula_and_has_no_unit():
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(3, 7, 6, generator=generator), 3 + 2 * torch.randn(3, 7, 6, generator=generator)
    expected = naive_hidden(student, teacher, LENGTHS)
    np.testing.assert_allclose(hidden_loss(student, teacher, live()), expected, rtol=1e-4)
    np.testing.assert_allclose(hidden_loss(10 * student, 10 * teacher, live()), expected, rtol=1e-4)


def test_attention_loss_is_its_formula():
    generator = torch.Generator().manual_seed(0)
    dead = torch.where(live() > 0, 0.0, -torch.inf)[:, None]
    causal = torch.full((7, 7), -torch.inf).triu(1)
    student, teacher = (softmax(torch.randn(3, 7, 7, generator=generator) + dead + causal, -1) for _ in range(2))
    found = attention_loss(student, teacher, live())
    np.testing.assert_allclose(found, naive_attention(student, teacher, LENGTHS), rtol=1e-4)
    assert attention_loss(teacher, teacher, live()).abs().max() < 1e-6


def test_every_family_pruned_with_layers_and_heads_gone(model, split):
    """Uneven heads, an attention that is gone, a layer that is gone: the pairs are layers of the same first number."""
    kept = uneven(model, whole=True)
    kept["layer"] = [[], [0], [0]]
    student = shrink(model, kept)
    assert numbers(student) == [1, 2]
    chosen = np.array([3, 0, 7])
    batch, lengths = tensors(split, chosen), split.lengths[chosen]
    (mine, my_attention), (its, its_attention) = seen(student, batch), seen(model, batch)
    hidden = np.mean([naive_hidden(mine[s], its[s + 1], lengths) for s in (0, 1)], axis=0)
    attending = [0, 1] if "attention" not in family_of(model.config.model_type).sublayers else [1]
    assert len(my_attention) == len(attending)
    pairs = zip(my_attention, attending, strict=True)
    attention = np.mean([naive_attention(a, its_attention[s + 1], lengths) for a, s in pairs], axis=0)
    for weights, expected in (
        ((2.0, 0.0), 2 * hidden),
        ((0.0, 3.0), 3 * attention),
        ((2, 3), 2 * hidden + 3 * attention),
    ):
        extra = distiller(model, split, hidden=weights[0], attention=weights[1], pruned=True)
        before = dict(student.named_parameters())
        assert attached(student, extra) == []
        losses = extra.losses(student(**batch), chosen)
        np.testing.assert_allclose(losses.detach(), expected, rtol=2e-3)
        gradients = torch.autograd.grad(losses.sum(), list(before.values()), allow_unused=True)
        assert any(g is not None and g.abs().max() > 0 for g in gradients)
        extra.release(student)
        assert dict(student.named_parameters()).keys() == before.keys()
        assert student.eval()(**batch).attentions is None


@pytest.mark.parametrize("family", ["bert", "xlnet", "llama"])
def test_learned_map_and_projections_are_their_formula(family):
    """A BERT student of another width under teachers of other families; gradients reach everything that is learned."""
    teacher, student, split = build(family), small_bert(), rows()
    extra = distiller(teacher, split, layer_map="learned", hidden=2.0, attention=3.0)
    groups = attached(student, extra)
    assert [len(group["params"]) for group in groups] == [2, 1]
    with torch.no_grad():
        extra.map.copy_(torch.randn(2, 3, generator=torch.Generator().manual_seed(1)))
    chosen = np.array([3, 0, 7])
    batch, lengths = tensors(split, chosen), split.lengths[chosen]
    losses = extra.losses(student(**batch), chosen)
    (its, its_attention), shares = seen(teacher, batch), softmax(extra.map.detach(), -1)
    projections = [extra.projections[str(s)].weight.detach() for s in range(2)]
    losses.sum().backward()
    assert all(parameter.grad.abs().max() > 0 for group in groups for parameter in group["params"])
    figures = extra.figures()
    assert figures["layer 0"] == pytest.approx(float(shares[0] @ torch.arange(3.0)))
    extra.release(student)
    mine, my_attention = seen(student.eval(), batch)
    hidden, attention = [], []
    for s in range(2):
        target, focus = (sum(shares[s, t] * x[t] for t in range(3)) for x in (its, its_attention))
        hidden.append(naive_hidden(mine[s] @ projections[s].T, target, lengths))
        attention.append(naive_attention(my_attention[s], focus, lengths))
    expected = 2 * np.mean(hidden, axis=0) + 3 * np.mean(attention, axis=0)
    np.testing.assert_allclose(losses.detach(), expected, rtol=2e-3)


def test_fixed_maps():
    assert fixed("uniform", range(3), range(6), pruned=False) == [(0, 1), (1, 3), (2, 5)]
    assert fixed("uniform", range(6), range(3), pruned=False) == [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2)]
    assert fixed("uniform", [0, 2, 5], [0, 1, 2, 4, 5], pruned=True) == [(0, 0), (1, 2), (2, 4)]
    assert fixed("last", [0, 2], range(6), pruned=True) == [(1, 5)]
    assert fixed(((0, 1), (1, 1), (2, 5)), [0, 2], range(6), pruned=True) == [(0, 1), (1, 5)]
    with pytest.raises(UserError, match="student has no layer 3; its layers are 0, 1, 2"):
        fixed(((3, 1),), range(3), range(6), pruned=False)
    with pytest.raises(UserError, match="teacher has no layer 6"):
        fixed(((0, 6),), range(3), range(6), pruned=False)
    with pytest.raises(UserError, match="lost every layer"):
        fixed(((1, 1),), [0, 2], range(6), pruned=True)


def test_attention_that_is_not_there_is_refused(split):
    model = build("bert")
    bare = shrink(model, {"attention": [[0], [], [0]]})
    with pytest.raises(UserError, match="teacher has no attention in its layer 1"):
        attached(build("bert"), distiller(bare, split))
    with pytest.raises(UserError, match="no layer that layer_map names has attention left"):
        attached(bare, distiller(model, split, layer_map=((1, 1),), pruned=True))


def train(scratch, split, layer_map="learned", **changes):
    """A narrower student with dropout, trained on everything there is."""
    scratch.mkdir(exist_ok=True)
    student, teacher = small_bert(dropout=0.1), build("bert")
    extra = distiller(teacher, split, layer_map=layer_map)
    objective = joint(distillation(TASK, split, cached(torch.zeros(len(split), 3)), 2.0, 0.5), extra.losses)
    settings = SETTINGS.model_copy(update=changes)
    validation = rows(20, seed=1)
    history = fit(student, split, validation, settings, objective, TASK, "accuracy", 0, scratch, [extra])
    learned = [extra.map.detach().cpu().clone(), *(p.detach().clone() for p in extra.projections.parameters())]
    extra.release(student)
    return student, history, learned


@pytest.mark.parametrize("stop", [4, 7])
def test_resumes_exactly(tmp_path, monkeypatch, stop):
    split, calls = rows(44), 0
    unbroken, expected, learned = train(tmp_path / "unbroken", split)

    def counted(*arguments):
        nonlocal calls
        calls += 1
        if calls > 4 * stop:  # there are four groups of parameters
            raise KeyboardInterrupt
        return learning_rate(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "learning_rate", counted)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "cut", split)
    resumed, history, again = train(tmp_path / "cut", split)
    assert history == expected
    for name, values in dict(unbroken.named_parameters()).items():
        torch.testing.assert_close(values, dict(resumed.named_parameters())[name], rtol=0, atol=0)
    for one, two in zip(learned, again, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)
    assert learned[0].abs().max() > 0.01
    start = small_bert()
    assert MODULE not in dict(unbroken.named_modules())
    assert dict(unbroken.named_parameters()).keys() == dict(start.named_parameters()).keys()


def test_the_loss_falls(tmp_path):
    """What is learned from layers alone comes nearer to the teacher's layers."""
    split, student, teacher = rows(44), small_bert(), build("bert")
    extra = distiller(teacher, split)
    settings = SETTINGS.model_copy(update={"epochs": 16, "learning_rate": 3e-3})
    history = fit(student, split, rows(20, seed=1), settings, extra.losses, TASK, "accuracy", 0, tmp_path, [extra])
    assert history.curve[-1]["loss"] < 0.7 * history.curve[0]["loss"]


def _in_processes(scratch, out):
    split = rows(44)
    student, teacher = small_bert(), build("bert")
    extra = distiller(teacher, split, layer_map="learned")
    objective = joint(supervised(TASK, split), extra.losses)
    history = fit(student, split, rows(20, seed=1), SETTINGS, objective, TASK, "accuracy", 0, scratch, [extra])
    extra.release(student)
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        save(student, out)
        write_json(out / "map.json", [extra.map.detach().tolist(), history.curve])


def test_two_processes_equal_one(tmp_path):
    import json

    for count in (1, 2):
        launch(_in_processes, tmp_path / f"scratch{count}", tmp_path / f"out{count}", processes=count)
    one, two = (dict(load(tmp_path / f"out{count}").named_parameters()) for count in (1, 2))
    for name, values in one.items():
        if not name.endswith("key.bias"):  # softmax does not see it
            torch.testing.assert_close(values, two[name], rtol=1e-3, atol=1e-4)
    maps = [json.loads((tmp_path / f"out{count}" / "map.json").read_text()) for count in (1, 2)]
    np.testing.assert_allclose(maps[0][0], maps[1][0], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose([e["loss"] for e in maps[0][1]], [e["loss"] for e in maps[1][1]], rtol=1e-4)


def test_accumulation_adds_up(tmp_path):
    split = rows(44)
    whole, parts = (small_bert() for _ in range(2))
    for name, student, count in (("whole", whole, 1), ("parts", parts, 4)):
        extra = distiller(build("bert"), split)
        settings = SETTINGS.model_copy(update={"accumulate": count})
        scratch = tmp_path / name
        fit(student, split, rows(20, seed=1), settings, extra.losses, TASK, "accuracy", 0, scratch, [extra])
        extra.release(student)
    for name, values in dict(whole.named_parameters()).items():
        if not name.endswith("key.bias"):
            torch.testing.assert_close(values, dict(parts.named_parameters())[name], rtol=1e-3, atol=1e-4)


def test_bf16_is_near(split):
    teacher, student = build("bert"), small_bert()
    chosen = np.arange(6)
    found = []
    for bf16 in (False, True):
        extra = distiller(teacher, split, bf16=bf16)
        attached(student, extra)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            outputs = student(**tensors(split, chosen))
        losses = extra.losses(outputs, chosen)
        assert losses.dtype == torch.float32
        found.append(losses.detach().numpy())
        extra.release(student)
    assert (found[0] != found[1]).any()
    np.testing.assert_allclose(found[0], found[1], rtol=0.1)
