import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prepare_examples import csv_text, examples
from transformers import AutoTokenizer

from tasks.core.errors import EnvironmentFault, UserError
from tasks.text.data import read_split

Run = Callable[..., Path]


def facts(out: Path) -> dict[str, Any]:
    return json.loads((out / "data.json").read_text())


def texts(out: Path, split: str) -> list[str]:
    return pq.read_table(out / f"{split}.parquet")["text"].to_pylist()


def test_the_out_is_what_the_other_stages_expect(run: Run, tmp_path: Path, tiny_model: Path) -> None:
    rows = [*examples(), ("The FILM  number 1 is good", "pos"), (" ", "neg"), ("a very dull story", "other")]
    (tmp_path / "data.csv").write_text(csv_text(rows))
    out = run(labels=("pos", "neg"), max_length=8)
    assert {p.name for p in out.iterdir()} == {
        "train.parquet", "validation.parquet", "test.parquet", "tokenizer", "data.json"
    }  # fmt: skip
    table = pq.read_table(out / "train.parquet")
    assert table.schema == pa.schema({"text": pa.string(), "label": pa.int64(), "input_ids": pa.list_(pa.int32())})
    assert table.schema.metadata is None
    tokenizer = AutoTokenizer.from_pretrained(out / "tokenizer")
    for row in table.to_pylist():
        assert row["input_ids"] == tokenizer(row["text"], truncation=True, max_length=8)["input_ids"]
        assert row["label"] == ("bad" in row["text"])
    found = facts(out)
    assert found["labels"] == ["pos", "neg"]
    assert found["pad_token_id"] == 0
    assert found["dropped"] == {
        "duplicates": 1, "empty": 1, "other_labels": 1, "leaked": 0, "limit": 0, "unlabelled": 0
    }  # fmt: skip
    none = {"train/validation": 0, "train/test": 0, "validation/test": 0}
    assert found["overlap"] == {**none, "groups": 0}
    digest = hashlib.sha256((tmp_path / "data.csv").read_bytes()).hexdigest()
    assert found["source"] == {"uri": "data.csv", "sha256": digest, "rows": 63}
    for name, split in found["splits"].items():
        kept = texts(out, name)
        full = [len(tokenizer(text)["input_ids"]) for text in kept]
        assert split["rows"] == len(kept) == sum(split["classes"].values())
        assert split["tokens"]["max"] == max(full)
        assert split["tokens"]["mean"] == round(sum(full) / len(full), 2)
        assert split["truncated"] == sum(n > 8 for n in full)
        assert split["characters"]["max"] == max(map(len, kept))
    assert sum(s["rows"] for s in found["splits"].values()) + sum(found["dropped"].values()) == 63


def test_the_same_bytes_in_every_directory(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(csv_text(examples()))

    def digests(out: Path) -> dict[str, str]:
        files = (p for p in out.rglob("*") if p.is_file())
        return {p.relative_to(out).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    absolute = run("b/deeper/out", source=str(tmp_path / "data.csv"))
    assert digests(run("a")) == digests(absolute)
    assert not [p for p in absolute.rglob("*") if p.is_file() and str(tmp_path).encode() in p.read_bytes()]


@pytest.mark.parametrize(("summary", "left"), [("last", True), ("first", False)])
def test_a_model_that_reads_the_last_place_is_padded_on_the_left(
    run: Run, tmp_path: Path, tiny_model: Path, summary: str, left: bool
) -> None:
    """Here and, by the tokenizer that goes with the model, elsewhere."""
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model/config.json").write_text(json.dumps({"model_type": "xlnet", "summary_type": summary}))
    (tmp_path / "data.csv").write_text(csv_text(examples()))
    out = run(model="model")
    assert facts(out)["pad_left"] == left
    assert AutoTokenizer.from_pretrained(out / "tokenizer").padding_side == ("left" if left else "right")
    assert read_split(out, "train").pad_left == read_split(out, "test").take([0]).pad_left == left


def test_a_pair_is_tokenised_as_a_pair(run: Run, tmp_path: Path, tiny_model: Path) -> None:
    rows = [(f"the film number {i % 30}", f"a story of {i} actors", str(i % 2)) for i in range(60)]
    (tmp_path / "data.csv").write_text(csv_text(rows, "text,other,label"))
    out = run(text_pair="other", max_length=12)
    table = pq.read_table(out / "train.parquet")
    assert table.column_names == ["text", "text_pair", "label", "input_ids", "token_type_ids"]
    assert table.schema.field("token_type_ids").type == pa.list_(pa.int8())
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    for row in table.to_pylist():
        wanted = tokenizer(row["text"], row["text_pair"], truncation=True, max_length=12)
        assert (row["input_ids"], row["token_type_ids"]) == (wanted["input_ids"], wanted["token_type_ids"])
    assert not set(texts(out, "train")) & set(texts(out, "test"))  # a first text stays in one split


def test_splits_of_the_source_are_kept_and_leaks_removed(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    train, dev, test = examples(60)[:40], examples(60)[38:50], examples(60)[48:]
    for name, rows in (("train.csv", train), ("dev.csv", dev), ("test.csv", test)):
        (source / name).write_text(csv_text(rows))
    (source / "README.md").write_text("about")
    out = run(source="source", validation=0, test=0)
    assert texts(out, "test") == [text for text, _ in test]
    assert texts(out, "validation") == [text for text, _ in dev[:10]]
    assert texts(out, "train") == [text for text, _ in train[:38]]
    assert facts(out)["dropped"]["leaked"] == 4


def test_only_missing_splits_are_cut(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "train.csv").write_text(csv_text(examples(60)[:50]))
    (source / "test.csv").write_text(csv_text(examples(60)[50:]))
    out = run(source="source")
    assert texts(out, "test") == [text for text, _ in examples(60)[50:]]
    assert 2 <= len(texts(out, "validation")) <= 20


def test_a_group_stays_together(run: Run, tmp_path: Path) -> None:
    rows = [(f"the film number {i} is fine", "ab"[i % 2], f"g{i // 6}") for i in range(120)]
    (tmp_path / "data.csv").write_text(csv_text(rows, "text,label,film"))
    out = run(group="film")
    group = {text: film for text, _, film in rows}
    films = {name: {group[text] for text in texts(out, name)} for name in ("train", "validation", "test")}
    assert not films["train"] & films["test"]
    assert not films["train"] & films["validation"]
    assert not films["validation"] & films["test"]
    assert facts(out)["overlap"]["groups"] == 0


def test_splits_do_not_depend_on_seed_or_order_but_the_limit_does(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(csv_text(examples(90)))
    (tmp_path / "reversed.csv").write_text(csv_text(examples(90)[::-1]))
    first, second = run("a", seed=0), run("b", seed=1, source="reversed.csv")
    assert texts(first, "test") == texts(second, "test")[::-1]
    limited, other = run("c", limit=10), run("d", limit=10, seed=1)
    assert {name: s["rows"] for name, s in facts(limited)["splits"].items()} == {
        "train": 10, "validation": 10, "test": 10
    }  # fmt: skip
    assert set(texts(limited, "train")) < set(texts(first, "train"))
    assert texts(limited, "train") != texts(other, "train")
    assert facts(limited)["dropped"]["limit"] == 60


def test_duplicates_may_stay_but_never_in_two_splits(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(csv_text(examples(40) * 2))
    out = run(deduplicate=False)
    splits = {name: Counter(texts(out, name)) for name in ("train", "validation", "test")}
    assert all(set(count.values()) == {2} for count in splits.values())
    assert facts(out)["dropped"]["duplicates"] == 0
    assert not set(splits["train"]) & set(splits["test"])


def test_html_entities_become_characters(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(csv_text([(f"{t} &amp; fine", label) for t, label in examples()]))
    assert "&amp;" in texts(run("plain"), "train")[0]
    assert texts(run("clean", unescape=True), "train")[0].endswith("& fine")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"max_length": 65}, r"task\.max_length: 65; this model takes 3 to 64 tokens"),
        ({"model": "empty"}, r"model\.source \(empty\): holds no tokenizer"),
        ({"model": "missing"}, r"model\.source missing: no such"),
        ({"model": "broken"}, r"model\.source \(broken\): its tokenizer cannot be loaded"),
        ({"model": "small"}, r"its tokenizer gives id \d+, its config has vocab_size 6"),
        ({"text_pair": "text"}, r"must differ"),
        ({"text": "txt"}, r"data\.text: data\.csv has no column 'txt'; it has text, label; the nearest is text"),
    ],
)
def test_a_mistake_is_one_message_and_nothing_is_written(
    run: Run, tmp_path: Path, tiny_model: Path, changes: dict[str, Any], says: str
) -> None:
    (tmp_path / "data.csv").write_text(csv_text(examples()))
    for name in ("empty", "broken", "small"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "tokenizer.json").write_text("{")
    for file in tiny_model.iterdir():
        (tmp_path / "small" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "small" / "config.json").write_text('{"model_type": "bert", "vocab_size": 6}')
    with pytest.raises(UserError, match=says) as error:
        run(**changes)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "out").iterdir())


def test_code_beside_a_tokenizer_is_not_run(run: Run, tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "data.csv").write_text(csv_text(examples()))
    (tmp_path / "evil").mkdir()
    for file in tiny_model.iterdir():
        (tmp_path / "evil" / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "evil" / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "EvilTokenizer", "auto_map": {"AutoTokenizer": ["evil.EvilTokenizer", None]}}
    (tmp_path / "evil" / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "evil" / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with suppress(UserError):  # refused, or read without its code
        run(model="evil")
    assert not (tmp_path / "ran").exists()


@pytest.mark.network
def test_the_quickstart_recipe_is_prepared(tmp_path: Path) -> None:
    from tasks.prepare import prepare
    from tasks.recipe.load import resolve

    recipe = resolve(Path("params/quickstart.yaml"), [])
    try:
        prepare(recipe.data, recipe.task, recipe.model, recipe.seed, tmp_path, tmp_path)
    except EnvironmentFault as fault:
        pytest.skip(str(fault))
    found = facts(tmp_path)
    assert {name: s["rows"] for name, s in found["splits"].items()} == {"train": 9997, "validation": 1348, "test": 1406}
    assert found["labels"] == ["rotten", "fresh"]
    assert found["overlap"]["groups"] == 0
