"""What rounds are to remove, what trainings can do, and what neither can."""

from pathlib import Path

import pytest

from tasks.recipe.load import resolve
from tests.tasks.recipe.conftest import mistakes

PARAMS = Path(__file__).parents[3] / "params"
SHIPPED = sorted(path.stem for path in PARAMS.glob("*.yaml") if path.stem not in ("default", "pipeline"))


def test_goals_of_rounds() -> None:
    def goals(rounds: str, kinds: str = "[head, neuron]") -> list[dict[str, object]]:
        recipe = resolve(None, [f"prune.kinds={kinds}", f"prune.rounds={rounds}"])
        return [goal.as_item() for goal in recipe.prune.goals]

    assert goals("[{flops: 0.5}]") == [{"flops": 0.5}]
    assert goals("[{head: {count: 3}, neuron: {threshold: 0.5}}]") == [
        {"head": {"count": 3}, "neuron": {"threshold": 0.5}}
    ]
    assert goals("[{weight: {pattern: '2:4'}}]", "[weight]") == [{"weight": {"pattern": (2, 4)}}]
    assert goals("[0.3, 0.5]", "[head, vocabulary]") == [
        {"head": {"share": 0.3}, "vocabulary": True},
        {"head": {"share": 0.5}},
    ]
    assert goals("[{head: 0.3}, {flops: 0.5, vocabulary: true}]", "[head, vocabulary]") == [
        {"head": {"share": 0.3}},
        {"flops": 0.5, "vocabulary": True},
    ]
    assert goals("[{vocabulary: true}]", "[vocabulary]") == [{"vocabulary": True}]
    assert goals("{cubic: 0.8, count: 2}", "[neuron]") == [{"neuron": {"share": 0.7}}, {"neuron": {"share": 0.8}}]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["prune.rounds=[{flops: 0.5, head: 0.1}]"], "names nothing else"),
        (["prune.rounds=[{head: {pattern: '2:4'}}]"], "for single weights"),
        (["prune.kinds=[weight]", "prune.rounds=[{weight: {pattern: '5:4'}}]"], "keeps more than there are"),
        (["prune.kinds=[weight]", "prune.rounds=[{flops: 0.5}]"], "a zero costs as much"),
        (["prune.rounds=[{latency: 0.5}]"], "whose times do not add up; choose solve"),
        (
            ["prune.rounds=[{latency: 0.5}]", "prune.allocation=solve", "prune.kinds=[head, width]"],
            "whose time is no sum over layers",
        ),
        (
            ["prune.rounds=[{latency: 0.5}]", "prune.allocation=solve", "prune.kinds=[head, kv_group]"],
            "of which one holds the other",
        ),
        (
            ["prune.rounds=[{latency: 0.5}]", "prune.allocation=solve", "prune.kinds=[head, layer]"],
            "layer and what lies in it",
        ),
        (["prune.kinds=[weight]", "prune.rounds=[{latency: 0.5}]", "prune.allocation=solve"], "a zero costs as much"),
        (["prune.rounds=[0.5, 0.4]"], "must not fall"),
        (["prune.kinds=[vocabulary]", "prune.rounds=[0.5]"], "vocabulary goes by what the data use"),
        (["prune.kinds=[vocabulary]", "prune.rounds={cubic: 0.5, count: 2}"], "vocabulary goes by what the data use"),
        (["prune.kinds=[vocabulary]", "prune.rounds=[{parameters: 0.5}]"], "vocabulary goes by what the data use"),
        (["prune.kinds=[head, vocabulary]", "prune.rounds=[{vocabulary: 0.5}]"], "vocabulary goes by what the data"),
        (["prune.kinds=[head, vocabulary]", "prune.rounds=[{vocabulary: {count: 5}}]"], "vocabulary goes by what the"),
        (["prune.kinds=[head, vocabulary]", "prune.rounds=[{vocabulary: false}]"], "vocabulary goes by what the data"),
        (["prune.rounds=[{head: 0.1, vocabulary: true}]"], "rounds names vocabulary, kinds does not"),
        (["prune.rounds=[{head: true}]"], "true is for the vocabulary; of head give a share"),
    ],
)
def test_goals_that_cannot_be(settings: list[str], said: str) -> None:
    assert said in "\n".join(mistakes(*settings))


def test_tokens_of_windows_cannot_go() -> None:
    settings = ["prune.kinds=[head, vocabulary]", "prune.vocabulary_min_count=2"]
    qa = ["task.type=qa", "task.metric=f1", "data.text_pair=context", "data.labels=null"]
    qa += ["data.unescape=false", "task.max_length=128"]
    assert resolve(None, settings).prune.vocabulary_min_count == 2
    assert "prune.vocabulary_min_count is 2; rows of qa are windows" in "\n".join(mistakes(*settings, *qa))


def test_exits_need_classes_and_are_few() -> None:
    settings = ["quantize.methods=[exits]", "task.type=multilabel", "task.metric=micro_f1"]
    assert "quantize.methods names exits; only classification" in "\n".join(mistakes(*settings))
    depths = "quantize.exits.depths=[0.2, 0.4, 0.6, 0.8]"
    assert "the list must have a length of at most 3" in "\n".join(mistakes(depths))
    assert "quantize.exits.depths[0]: 1; must be below 1" in "\n".join(mistakes("quantize.exits.depths=[1]"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["prune.rewind=true"], "train.early is null"),
        (["train.early=9"], "train: early (9) must be at most epochs"),
        (["finetune.regrowth=0.3"], "name weight in prune.kinds"),
        (
            ["finetune.regrowth=0.3", "prune.kinds=[weight]", "prune.rounds=[{weight: {pattern: '2:4'}}]"],
            "that have no pattern",
        ),
        (["finetune.gradual=true"], "name weight in prune.kinds"),
        (
            ["finetune.gradual=true", "prune.kinds=[weight]", "prune.rounds=[{weight: {threshold: 0.1}}]"],
            "with shares in prune.rounds",
        ),
        (["finetune.gradual=true", "prune.kinds=[weight]", "finetune.regrowth=0.1"], "finetune.regrowth must be 0"),
        (["score.criterion=l0", "prune.kinds=[neuron, weight]"], "gates stand on units"),
        (["score.training.epoch=2"], "score.training.epoch: unknown key"),
        (["score.training.l1=-1"], "score.training.l1: -1; must be at least 0"),
    ],
)
def test_what_a_training_cannot_do(settings: list[str], said: str) -> None:
    assert said in "\n".join(mistakes(*settings))


def test_layer_maps() -> None:
    assert resolve(None, ["finetune.layer_map=[[0, 1], [2, 5]]"]).finetune.layer_map == ((0, 1), (2, 5))
    for wrong in ("foo", "[[0]]", "[[0, -1]]", "3", "[]", "[0, 1]", "[[0, true]]"):
        _, line = mistakes(f"distill.layer_map={wrong}")
        assert line.startswith("distill.layer_map: ")
        assert line.endswith("must be one of uniform, last, learned, or pairs of layers such as [[0, 1], [1, 3]]")
    _, line = mistakes("distill.layers=[2, 0]")
    assert line == "distill.layers: [2, 0]; must ascend, each layer once, such as [0, 2]"
