"""Defaults, recipe and settings make one checked recipe; all mistakes come at once."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import parse_yaml
from pydantic import BaseModel

from tasks.core.errors import UserError
from tasks.recipe.load import dag, dump, read, resolve
from tasks.recipe.schema import Recipe

PARAMS = Path(__file__).parents[3] / "params"
SHIPPED = sorted(path.stem for path in PARAMS.glob("*.yaml") if path.stem not in ("default", "pipeline"))


def keys(model: type[BaseModel], before: str = "") -> set[str]:
    found = set()
    for name, field in model.model_fields.items():
        kind = field.annotation
        is_section = isinstance(kind, type) and issubclass(kind, BaseModel)
        found |= keys(kind, f"{before}{name}.") if is_section else {before + name}
    return found


def flat(values: dict[str, Any], before: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield from flat(value, f"{before}{key}.") if isinstance(value, dict) else [before + key]


def mistakes(*overrides: str, recipe: Path | None = None) -> list[str]:
    with pytest.raises(UserError) as caught:
        resolve(recipe, overrides)
    return [line.strip() for line in str(caught.value).splitlines()]


def test_defaults_hold_every_key_and_no_other() -> None:
    default: dict[str, Any] = yaml.safe_load((PARAMS / "default.yaml").read_text())
    assert set(flat(default)) == keys(Recipe)


def test_every_key_is_explained_where_it_first_stands() -> None:
    explained = set()
    for line in (PARAMS / "default.yaml").read_text().splitlines():
        match = re.match(r"\s*(\w+):(.*)", line)
        if match and (match[2].partition("#")[0].strip() or line.startswith(" ")):
            assert match[1] in explained or " # " in match[2], line
            explained.add(match[1])


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_resolve_and_survive_the_pipeline_file(name: str, tmp_path: Path) -> None:
    recipe = resolve(Path(name), [])
    assert recipe.name == name
    (tmp_path / "pipeline.yaml").write_text(dump(recipe))
    assert read(tmp_path / "pipeline.yaml") == recipe


@pytest.mark.parametrize(
    "labels", ['["no", "yes"]', '["5e-5", "1e3"]', '["010", "0x1f"]', '["~", "null"]', '["1:30", "a: b"]']
)
def test_dvc_reads_what_we_write(labels: str) -> None:
    recipe = resolve(None, [f"data.labels={labels}", "train.learning_rate=1e-7"])
    seen = parse_yaml(dump(recipe), "pipeline.yaml")
    assert seen == {**recipe.model_dump(mode="json"), "dag": dag(recipe)}
    assert Recipe.model_validate({k: v for k, v in seen.items() if k != "dag"}) == recipe


def test_sections_merge_and_lists_replace(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "model: {source: m}\ndata: {source: d.csv}\nprune: {rounds: [0.1, {head: 0.3}]}\ntrain: {epochs: 7}\n"
    )
    recipe = resolve(path, ["train.epochs=8", "prune.rounds=[{head: 0.2}]", "train.epochs=9"])
    assert recipe.train.epochs == 9
    assert recipe.train.batch_size == 32
    assert recipe.prune.rounds == ({"head": 0.2},)


def test_dag_follows_the_recipe() -> None:
    recipe = resolve(
        None, ["prune.rounds=[0.3, {head: 0.5, neuron: 0.6}]", "quantize.models=[pruned]", "data.source=a/b.csv"]
    )
    always = {"early": "models/dense/provenance.json", "times": "models/dense/provenance.json"}
    assert dag(recipe) == {
        "data": "a/b.csv",
        "model": "tasks/sources",
        "student": "tasks/sources",
        "curves": None,
        "table": {},
        "rounds": {
            "r1": {"model": "models/dense", "after": "data/teacher", **always, "goal": _both(0.3, 0.3)},
            "r2": {"model": "models/rounds/r1", "after": "data/rounds/r1", **always, "goal": _both(0.5, 0.6)},
        },
        "evaluate": {
            "r1": {"models": "models/rounds/r1", "reads": "data/teacher", "out": "data/rounds/r1"},
            "r2": {"models": "models/rounds/r2", "reads": "data/teacher", "out": "data/rounds/r2"},
            "test": {"models": "models", "reads": "data/rounds", "out": "data/evaluate/test"},
        },
        "quantize": {"pruned": {"models": "models/rounds", "reads": "data/rounds"}},
    }


@pytest.mark.parametrize("allocation", ["uniform", "global", "sensitivity", "solve"])
def test_curves_are_measured_where_the_allocation_goes_by_them(allocation: str) -> None:
    """So one file of scores serves all budgets, and both allocations of each sort."""
    found = dag(resolve(None, [f"prune.allocation={allocation}", "prune.rows=99"]))["curves"]
    asked = {"align": 8, "reconstruct": True, "rows": 99, "batch_size": 32, "damping": 0.01}
    assert found == (asked if allocation in ("sensitivity", "solve") else None)
    other = resolve(None, [f"prune.allocation={allocation}", "prune.rows=99", "prune.rounds=[0.2]"])
    assert dag(other)["curves"] == found


def test_a_round_of_latency_hangs_on_the_table_of_times() -> None:
    found = dag(resolve(None, ["prune.allocation=solve", "prune.rounds=[0.2, {latency: 0.6}]"]))
    assert found["table"] == {"dense": {}}
    times = [entry["times"] for entry in found["rounds"].values()]
    assert times == ["models/dense/provenance.json", "data/times/table"]
    assert found["rounds"]["r2"]["goal"] == {"latency": 0.6}


def _both(head: float, neuron: float) -> dict[str, dict[str, float]]:
    return {"head": {"share": head}, "neuron": {"share": neuron}}


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


def test_dvc_watches_what_the_student_starts_from() -> None:
    assert dag(resolve(None, ["distill.source=models/other"]))["student"] == "models/other"
    assert dag(resolve(None, ["distill.source=hf://a/b@c"]))["student"] == "tasks/sources"


def test_layer_maps() -> None:
    assert resolve(None, ["finetune.layer_map=[[0, 1], [2, 5]]"]).finetune.layer_map == ((0, 1), (2, 5))
    for wrong in ("foo", "[[0]]", "[[0, -1]]", "3", "[]", "[0, 1]", "[[0, true]]"):
        _, line = mistakes(f"distill.layer_map={wrong}")
        assert line.startswith("distill.layer_map: ")
        assert line.endswith("must be one of uniform, last, learned, or pairs of layers such as [[0, 1], [1, 3]]")
    _, line = mistakes("distill.layers=[2, 0]")
    assert line == "distill.layers: [2, 0]; must ascend, each layer once, such as [0, 2]"


def test_the_dag_says_what_each_round_removes() -> None:
    item = dag(resolve(None, ["prune.kinds=[neuron]"]))["rounds"]["r1"]
    assert set(item) == {"model", "after", "early", "times", "goal"}
    back = resolve(None, ["train.early=0.1", "prune.rewind=true"])
    assert {item["early"] for item in dag(back)["rounds"].values()} == {"models/dense/early"}


def test_all_mistakes_at_once() -> None:
    lines = mistakes(
        "foo",
        "train.learning_rat=1",
        "train.max_drop=1",
        "budgt.x=1",
        "prune.rounds=[0.3, 1.5, {head: 2, neurons: 0.1}, few]",
        "task.metric=acuracy",
        "train.batch_size=2.5",
        "train.patience=true",
        "model=3",
        "finetune.batch_size=33",
        "finetune.accumulate=2",
        "distill.enabled=false",
        "distill.epochs=x",
        "data.source=null",
        "quantize.methods=[]",
        "name=a b",
    )
    assert lines[0] == "18 mistakes in the recipe quickstart:"
    assert set(lines[1:]) == {
        "--set foo: must be key=value, such as train.epochs=2",
        "train.learning_rat: unknown key; did you mean learning_rate?",
        "train.max_drop: unknown key; did you mean budget.max_drop?",
        "budgt: unknown key; did you mean budget?",
        "prune.rounds[1]: 1.5; must be below 1",
        "prune.rounds[2].head: 2; must be below 1",
        "prune.rounds[2].neurons: unknown key; must be one of "
        "head, kv_group, neuron, attention, ffn, layer, width, weight, vocabulary, parameters, flops, latency; "
        "did you mean neuron?",
        'prune.rounds[3]: "few"; must be a number or a mapping, such as {key: value}',
        'task.metric: "acuracy"; must be one of accuracy, macro_f1, matthews; did you mean accuracy?',
        "train.batch_size: 2.5; must be a whole number",
        "train.patience: true; must be a whole number",
        "model: 3; must be a section with keys below it",
        "finetune: batch_size must be a multiple of accumulate times processes",
        'distill.epochs: "x"; must be a number',
        "data.source: is not set; name one in the recipe or with --set data.source=…",
        "quantize.models names student, but distill.enabled is false",
        "quantize.methods: []; the list must have a length of at least 1",
        'name: "a b"; must be letters, digits, dots, dashes and underscores: ^[A-Za-z0-9][A-Za-z0-9._-]*$',
    }


def test_rules_between_values_come_with_the_other_mistakes() -> None:
    lines = mistakes("distill.enabled=false", "train.epochs=x", "data.validation=0.6", "data.test=0.5")
    assert "quantize.models names student, but distill.enabled is false" in lines
    assert "data: validation and test together must be below 1" in lines
    assert len(lines) == 4


def test_a_rule_about_a_mistaken_value_is_not_guessed() -> None:
    assert mistakes("train.batch_size=x", "train.accumulate=3")[1:] == ['train.batch_size: "x"; must be a whole number']


def test_no_message_speaks_pydantic() -> None:
    text = " ".join(
        mistakes("train=3", "prune.rounds=[[]]", "data.labels=[1]", "seed=-1", "seed.x=1", "score.rows=1e99")
    )
    assert not re.search(r"pydantic|https?:|Input should|type=|constrained|tuple|literal", text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"a: [1", "line 1, column 6"),
        (b"seed: 1\ntrain: {epochs: 1\n\nx: 2", "line 4, column 2"),
        (b"seed: *x", "anchors"),
        (b"seed: !!python/object/apply:os.system [ls]", "tag"),
        (b"seed: 1e999", "out of range"),
        (b"- a\n- b", "keys and values"),
        (b"name: \xff\xfe", "UTF-8 (byte 7)"),
        (b"name: a\x00b", "not allowed"),
        (b"[" * 5000, "deep"),
        (b"a: 1\n---\nb: 2", "line 2"),
        (b"? [a]\n: 1", "one word"),
        (b'name: "\\ud800"', "surrogate"),
    ],
)
def test_broken_files_say_where(text: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(text)
    assert says in " ".join(mistakes(recipe=path))


def test_a_key_that_stands_twice_is_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("model: {source: m}\ndata: {source: d}\ntrain:\n  epochs: 1\n  epochs: 2\nseed: 1\nseed: 2\n")
    assert mistakes(recipe=path)[1:] == [
        "epochs: stands twice, the second time in line 5",
        "seed: stands twice, the second time in line 7",
    ]


@pytest.mark.parametrize(
    ("value", "number"), [("5e-5", 5e-5), ("5.0e-05", 5e-5), (".5", 0.5), ("1", 1.0), ("1e0", 1.0)]
)
def test_numbers_as_people_write_them(value: str, number: float) -> None:
    assert resolve(None, [f"train.learning_rate={value}"]).train.learning_rate == number


def test_words_that_old_yaml_takes_for_truth_are_text() -> None:
    assert resolve(None, ["data.labels=[no, yes, on, 1:30]"]).data.labels == ("no", "yes", "on", "1:30")


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("=3", "key=value"),
        ("train..epochs=3", "key=value"),
        ("prune.rounds[1]=3", "prune.rounds=[…]"),
        ("train.epochs=[1", "not YAML: line 1"),
        ("train={a: 1, a: 2}", "twice"),
        ("train.batch_size.x=1", "whole number"),
    ],
)
def test_settings_that_cannot_be_read(setting: str, says: str) -> None:
    assert says in mistakes(setting)[1]


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    assert mistakes(recipe=Path("quickstrat")) == [
        f"the recipe quickstrat is not there; give a file or one of {', '.join(SHIPPED)}; did you mean quickstart?"
    ]
    assert "is a directory" in mistakes(recipe=tmp_path)[0]
    assert "is not there" in mistakes(recipe=tmp_path / "quickstart.yaml")[0]


def test_reading_before_the_first_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="secateur run writes it"):
        read(tmp_path / "pipeline.yaml")


def test_reading_an_edited_file_checks_it(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text(dump(resolve(None, [])).replace("epochs: 1.0", "epochs: -2").replace("seed: 0\n", ""))
    with pytest.raises(UserError, match=r"seed: is missing(.|\n)*train.epochs: -2"):
        read(path)
