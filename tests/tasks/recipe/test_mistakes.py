"""All mistakes of a recipe come at once, each in words that say where."""

import re
from pathlib import Path

import pytest

from tasks.core.errors import UserError
from tasks.recipe.load import dump, read, resolve
from tests.tasks.recipe.conftest import mistakes

PARAMS = Path(__file__).parents[3] / "params"
SHIPPED = sorted(path.stem for path in PARAMS.glob("*.yaml") if path.stem not in ("default", "pipeline"))


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
