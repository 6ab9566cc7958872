"""Early exits: against the plain graph, against one row at a time, and thresholds against trying all of them."""

import itertools
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from scipy.optimize import minimize
from tiny import TASK, build, rows, uneven

from tasks.core.errors import UserError
from tasks.core.files import read_json
from tasks.evaluate import _exits
from tasks.families import FAMILIES
from tasks.modeling.inference import forward, leaving, logits, open_model, open_session
from tasks.modeling.shrink import shrink
from tasks.quantize import METHODS
from tasks.quantize.exits import places, write_exits
from tasks.quantize.graph import fused_graph
from tasks.quantize.heads import RIDGE, Exit, fit
from tasks.quantize.nested import nested, parts
from tasks.quantize.thresholds import NEVER, choose, confidence, leave
from tasks.recipe.load import resolve
from tasks.text.metrics import accuracy, confusion, macro_f1

AFTER = [1, 2]
KNOWN = sorted(name for name, family in FAMILIES.items() if family.attention)
SETTINGS = resolve(None, ["quantize.exits={depths: [0.3, 0.6]}"]).quantize.exits


def heads(width=32):
    torch.manual_seed(3)
    return {k: Exit(0.2 * torch.randn(3, width), torch.randn(3)) for k in AFTER}


def references(model, split):
    """What each exit and the end say, by PyTorch's own hidden states, one row at a time."""
    said = [[] for _ in range(3)]
    for row in range(len(split)):
        batch = {name: torch.from_numpy(array) for name, array in split.batch([row]).items()}
        with torch.inference_mode():
            found = model(**batch, output_hidden_states=True)
            for place, (k, head) in enumerate(heads().items()):
                state = found.hidden_states[k].mean(1)
                said[place].append((state @ head.linear.weight.T + head.linear.bias)[0].numpy())
            said[2].append(found.logits[0].numpy())
    return np.array(said)


def graph_of(model, pairs=False):
    return fused_graph(model, pairs=pairs, exits=heads())


def write(graph, path, thresholds):
    path.mkdir()
    onnx.save(nested(parts(graph, AFTER), thresholds), path / "model.onnx")
    return path


@pytest.fixture(scope="module")
def bert():
    return graph_of(build("bert"))


@pytest.fixture(params=KNOWN)
def pruned(request):
    model = build(request.param)
    return shrink(model, uneven(model))


def test_leaves_where_it_is_sure_and_says_what_is_said_there(pruned, split, tmp_path):
    """Batches give what single rows give: rows that leave, and padding that goes with them, change nothing."""
    graph, said = graph_of(pruned), references(pruned, split)
    sure = confidence(said[:-1])
    for number, thresholds in enumerate(([NEVER, NEVER], [0.0, 0.0], [NEVER, 0.0], np.median(sure, 1))):
        left, found = leaving(write(graph, tmp_path / str(number), thresholds), split, len(split))
        expected = leave(sure, thresholds)
        np.testing.assert_array_equal(left, expected)
        np.testing.assert_allclose(found, said[expected, np.arange(len(split))], atol=2e-4)
    assert set(expected) == {0, 1, 2}


def test_never_to_leave_is_the_plain_graph(bert, split, tmp_path):
    plain = open_session(fused_graph(build("bert"), pairs=False).SerializeToString())
    batch = split.batch(range(len(split)))
    found = open_model(write(bert, tmp_path / "m", [NEVER, NEVER]), 1)(batch)
    np.testing.assert_array_equal(found, plain.run(None, batch)[0])


def test_pairs_and_layers_that_lost_parts(split, tmp_path):
    model = build("bert")
    model = shrink(model, uneven(model, whole=True))
    paired = replace(split, token_type_ids=[(np.arange(len(ids)) > 3).astype(np.int64) for ids in split.input_ids])
    path = write(graph_of(model, pairs=True), tmp_path / "m", [NEVER, NEVER])
    np.testing.assert_allclose(logits(open_model(path, 1), paired, 8), logits(forward(model), paired, 8), atol=1e-4)


@pytest.mark.parametrize("metric", [accuracy, macro_f1])
@pytest.mark.parametrize("exits", [1, 2, 3])
def test_thresholds_are_those_of_trying_all(metric, exits):
    """Few rows, so that every confidence is a level; many of them are equal."""
    rng = np.random.default_rng(exits)
    for max_drop in (0.0, 0.04, 0.2):
        sure = rng.integers(5, 11 - exits, (exits, 25)) / 10
        true = rng.integers(0, 3, 25)
        says = [np.where(rng.random(25) < 0.5 + 0.1 * k, true, rng.integers(0, 3, 25)) for k in range(exits + 1)]
        cells, layers = np.stack([confusion(true, said, 3) for said in says]), [*[1, 3, 4][:exits], 6]
        base, costs = metric(cells[-1].sum(0)), {}
        for thresholds in itertools.product(*([NEVER, *np.unique(row)] for row in sure)):
            left = [next((k for k in range(exits) if sure[k, i] >= thresholds[k]), exits) for i in range(25)]
            reached = metric(sum(cells[k, i] for i, k in enumerate(left)))
            if base - reached <= max_drop + 1e-9:
                costs[thresholds] = np.mean([layers[k] for k in left])
        found = choose(sure, cells, metric, layers, max_drop)
        assert costs[tuple(found)] == pytest.approx(min(costs.values()))


def test_nothing_leaves_where_nothing_may_be_lost():
    """The exit is wrong about every row; even a drop below 0, which no exit reaches, leaves the end."""
    true = np.arange(20) % 2
    cells = np.stack([confusion(true, 1 - true, 2), confusion(true, true, 2)])
    sure = np.linspace(0.5, 0.9, 20)[None]
    assert choose(sure, cells, accuracy, [1, 2], 0.0) == choose(sure, cells, accuracy, [1, 2], -1.0) == [NEVER]


def test_heads_are_the_optimum():
    """Against scipy on the same convex loss, written out."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(2, 3, (60, 4))
    soft = rng.dirichlet(np.ones(3), 60)
    standard = (inputs - inputs.mean(0)) / inputs.std(0, ddof=1)

    def loss(flat):
        weight, bias = flat[:12].reshape(3, 4), flat[12:]
        values = standard @ weight.T + bias
        logs = values - np.log(np.exp(values).sum(1, keepdims=True))
        return -(soft * logs).sum(1).mean() + RIDGE / 2 * (weight**2).sum()

    best = minimize(loss, np.zeros(15), options={"gtol": 1e-9}).x
    weight, bias = fit(torch.from_numpy(inputs), torch.from_numpy(soft))
    expected = standard @ best[:12].reshape(3, 4).T + best[12:]
    found = inputs @ weight.numpy().T + bias.numpy()
    shares = [np.exp(values) / np.exp(values).sum(1, keepdims=True) for values in (found, expected)]
    np.testing.assert_allclose(*shares, atol=1e-4)


@pytest.fixture(scope="module")
def exported():
    return {}


@pytest.fixture
def once(exported, monkeypatch):
    """The graph of the same model and heads is exported once."""

    def graph(model, **settings):
        weights = b"".join(head.linear.weight.detach().numpy().tobytes() for head in settings["exits"].values())
        if weights not in exported:
            exported[weights] = fused_graph(model, **settings)
        return exported[weights]

    monkeypatch.setattr("tasks.quantize.exits.fused_graph", graph)


@pytest.mark.parametrize("method", ["fp32", "dynamic", "static"])
def test_what_is_written_keeps_the_promise(method, once, tmp_path):
    """On rows whose labels are mostly the model's own answers, so that leaving costs quality."""
    model, out = build("bert"), tmp_path / "exits"
    train, validation = rows(200, seed=1), rows(120, seed=2)
    own = logits(forward(model), validation, 32).argmax(1)
    validation = replace(validation, labels=np.where(np.arange(120) % 10, own, validation.labels))
    settings = SETTINGS.model_copy(update={"method": method, "max_drop": 0.1})
    splits = {"train": train, "validation": validation}
    batches = [train.batch(range(16))]
    write_exits(model, splits, batches, METHODS[method], TASK, "accuracy", settings, "minmax", 0, out)
    facts, promised = read_json(out / "exits.json"), read_json(out / "exits.json")["validation"]
    said = logits(open_model(out, 1), validation, promised["batch"]).argmax(1)
    assert promised["quality"] == pytest.approx((said == validation.labels).mean())
    assert promised["drop_low"] <= promised["drop"] <= promised["drop_high"]
    assert promised["drop"] <= 0.1 + 1e-9
    assert sum(promised["left"]) == 120
    assert len(promised["left"]) == len(facts["layers"]) == len(facts["thresholds"]) + 1
    assert promised["mean_layers"] == pytest.approx(np.average(facts["layers"], weights=promised["left"]))
    assert _exits(out, validation, promised["batch"])["left"] == promised["left"]
    if method == "fp32":
        for size in (1, 32):
            reached = (logits(open_model(out, 1), validation, size).argmax(1) == validation.labels).mean()
            assert (own == validation.labels).mean() - reached <= 0.1 + 1e-9
        assert promised["left"][-1] < 120


@pytest.mark.parametrize(
    ("depths", "total", "found"), [([0.33, 0.67], 6, [2, 4]), ([0.33, 0.67], 3, [1, 2]), ([0.1, 0.2, 0.9], 2, [1])]
)
def test_places(depths, total, found):
    assert places(depths, total) == found


def test_a_single_layer_has_no_exit():
    with pytest.raises(UserError, match="1 layer"):
        places([0.5], 1)


def test_loads_without_secateur_and_without_complaint(bert, split, tmp_path, capfd):
    path = write(bert, tmp_path / "m", [0.6, 0.6])
    session = ort.InferenceSession(path / "model.onnx")
    assert [entry.name for entry in session.get_outputs()] == ["logits", "exit"]
    assert {entry.name for entry in session.get_inputs()} == {"input_ids", "attention_mask"}
    assert session.run(None, split.batch([0]))[0].shape == (1, 3)
    assert capfd.readouterr().err == ""
