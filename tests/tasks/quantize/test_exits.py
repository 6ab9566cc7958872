"""Early exits: against the plain graph, against one row at a time, and thresholds against the rule written out."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import binom
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
from tasks.quantize.thresholds import NEVER, bound, choose, confidence, leave
from tasks.recipe.load import resolve

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


def test_the_bound_is_that_of_clopper_and_pearson():
    """Were the share as large as the bound, as few as were seen would be seen 5 times in 100."""
    for count, total in ((0, 20), (3, 120), (7, 1300)):
        assert binom.cdf(count, total, bound(count, total)) == pytest.approx(0.05)
    assert bound(5, 5) == 1.0


@pytest.mark.parametrize("forms", [1, 2])
def test_the_threshold_is_the_lowest_down_to_which_all_keep_the_promise(forms):
    """Few rows, so that every confidence is a level; against the rule written out."""
    rng = np.random.default_rng(forms)
    found = set()
    for most in (0.1, 0.3, 0.5):
        sure = rng.integers(5, 10, (forms, 2, 40)) / 10
        says = np.where(rng.random((forms, 3, 40)) < sure.max(1, keepdims=True), 0, 1)
        expected = NEVER
        for threshold in (0.9, 0.8, 0.7, 0.6, 0.5):
            exits = [
                [next((k for k in (0, 1) if sure[f, k, i] >= threshold), 2) for i in range(40)] for f in range(forms)
            ]
            other = sum(any(says[f, exits[f][i], i] != says[f, 2, i] for f in range(forms)) for i in range(40))
            if binom.cdf(other, 40, most) > 0.05:
                break
            expected = threshold
        assert choose(sure, says, most) == expected
        found.add(expected)
    assert len(found) > 1


def test_the_promise_holds_as_often_as_promised():
    """Of 400 samples of a population, at least 95 of 100 find a threshold that keeps it there."""
    rng = np.random.default_rng(0)
    sure = rng.random(200_000)
    says = np.stack([np.where(rng.random(200_000) < sure, 0, 1), np.zeros(200_000, np.int64)])
    order = np.argsort(sure)
    wrong = np.cumsum(says[0, order[::-1]])[::-1] / 200_000  # changed, if all that are surer leave
    kept = 0
    for _ in range(400):
        rows = rng.choice(200_000, 500)
        threshold = choose(sure[None, None, rows], says[None][..., rows], 0.05)
        kept += threshold == NEVER or wrong[np.searchsorted(sure[order], threshold)] <= 0.05
    assert kept >= 0.93 * 400


def test_nothing_leaves_where_nothing_can_be_promised():
    """An exit that is always wrong, and too few rows of one that is always right."""
    sure = np.linspace(0.5, 0.9, 20)[None, None]
    assert choose(sure, np.stack([np.ones(20, int), np.zeros(20, int)])[None], 0.15) == NEVER
    assert choose(sure, np.zeros((1, 2, 20), int), 0.1) == NEVER
    assert choose(sure, np.zeros((1, 2, 20), int), 0.2) == 0.5


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
    model, out = build("bert"), tmp_path / "exits"
    train, validation = rows(200, seed=1), rows(120, seed=2)
    own = logits(forward(model), validation, 32).argmax(1)
    validation = replace(validation, labels=np.where(np.arange(120) % 10, own, validation.labels))
    settings = SETTINGS.model_copy(update={"method": method, "max_changed": 0.1})
    splits = {"train": train, "validation": validation}
    batches = [train.batch(range(16))]
    write_exits(model, splits, batches, METHODS[method], TASK, "accuracy", settings, "minmax", 0, out)
    facts = read_json(out / "exits.json")
    for size in (1, 32):
        measured = facts["validation"][f"b{size}"]
        said = logits(open_model(out, 1), validation, size).argmax(1)
        assert measured["quality"] == pytest.approx((said == validation.labels).mean())
        assert measured["drop_low"] <= measured["drop"] <= measured["drop_high"]
        assert bound(measured["changed"], 120) <= 0.1
        assert sum(measured["left"]) == 120
        assert len(measured["left"]) == len(facts["layers"])
        assert measured["mean_layers"] == pytest.approx(np.average(facts["layers"], weights=measured["left"]))
        assert _exits(out, validation, size)["left"] == measured["left"]
        if method == "fp32":
            assert measured["changed"] == (said != own).sum()
            assert measured["left"][-1] < 120


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
