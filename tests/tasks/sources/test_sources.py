from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from tasks.core.errors import EnvironmentFault, UserError
from tasks.sources import cache_dir, fetch, is_local


def test_a_path_is_relative_to_the_root_or_absolute(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x")
    assert fetch("a.csv", tmp_path / "cache", tmp_path, "data").samefile(tmp_path / "a.csv")
    assert fetch(str(tmp_path / "a.csv"), tmp_path / "cache", tmp_path / "elsewhere", "data") == tmp_path / "a.csv"
    assert not (tmp_path / "cache").exists()


def test_a_missing_path_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text("x")
    with pytest.raises(
        UserError, match=r"data\.source review\.csv: no such file or directory \(is it reviews\.csv\?\)"
    ):
        fetch("review.csv", tmp_path, tmp_path, "data")


def test_a_model_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("x")
    with pytest.raises(UserError, match=r"model\.source model: is not a directory; give .*save_pretrained"):
        fetch("model", tmp_path, tmp_path, "model")


def test_what_may_not_be_read_is_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_text("x")
    monkeypatch.setattr("tasks.sources.local.os.access", lambda *_: False)
    with pytest.raises(UserError, match="permission denied"):
        fetch("a.csv", tmp_path, tmp_path, "data")


@pytest.mark.parametrize("uri", ["", "  ", "a\0b", "x" * 5000, "/dev/null"])
def test_odd_paths_are_mistakes(tmp_path: Path, uri: str) -> None:
    with pytest.raises(UserError, match=r"data\.source"):
        fetch(uri, tmp_path, tmp_path, "data")


@pytest.mark.parametrize("uri", ["s3://a/b", "file:///a", "http://a", "://a", "PYPI://a"])
def test_an_unknown_scheme_shows_the_three_forms(tmp_path: Path, uri: str) -> None:
    with pytest.raises(UserError, match=r"unknown scheme.*a path.*pypi://.*hf://"):
        fetch(uri, tmp_path, tmp_path, "data")


def test_is_local() -> None:
    assert is_local("data/a.csv")
    assert not is_local("hf://a/b@main")


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("SECATEUR_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "secateur"


@pytest.mark.parametrize(
    "uri", ["hf://a/b", "hf://a/b@", "hf://a/b/c@main", "hf://../b@main", "hf://a/b@main?spilt=train"]
)
def test_a_wrong_hub_uri_shows_the_form(tmp_path: Path, uri: str) -> None:
    with pytest.raises(UserError, match=r"hf://NAME@REVISION"):
        fetch(uri, tmp_path / "cache", tmp_path, "data")


def test_of_a_hub_model_only_harmless_files_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def snapshot(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert fetch("hf://a/b@v1", tmp_path / "cache", tmp_path, "model") == tmp_path
    assert (asked["name"], asked["revision"], asked["repo_type"]) == ("a/b", "v1", "model")
    files = [
        "model.safetensors",
        "config.json",
        "vocab.txt",
        "pytorch_model.bin",
        "modeling.py",
        "x.pkl",
        "onnx/config.json",
    ]
    allowed = huggingface_hub.utils.filter_repo_objects(
        files, allow_patterns=asked["allow_patterns"], ignore_patterns=asked["ignore_patterns"]
    )
    assert list(allowed) == files[:3]


@pytest.mark.parametrize("kind", ["model", "data"])
def test_a_hub_out_of_reach_is_the_environments_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    def snapshot(name: str, **options: Any) -> str:
        raise ConnectionError("no route to host\nand much more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(EnvironmentFault, match=r"hf://a/b@main: cannot be had .*no route to host\); check the network"):
        fetch("hf://a/b@main", tmp_path / "cache", tmp_path, kind)


def test_a_model_that_the_hub_does_not_know_is_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import RepositoryNotFoundError

    def snapshot(name: str, **options: Any) -> str:
        raise RepositoryNotFoundError("404", response=SimpleNamespace(headers={}, request=None))  # type: ignore[arg-type]

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(UserError, match="no such model on the hub"):
        fetch("hf://a/b@main", tmp_path / "cache", tmp_path, "model")


@pytest.fixture
def hub_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A hub with one data set whose test labels are hidden; returns what was asked of it."""
    import datasets

    asked: list[dict[str, Any]] = []
    features = datasets.Features(
        {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["negative", "positive"])}
    )

    def split(labels: list[int], name: str) -> Any:
        return datasets.Dataset.from_dict(
            {"sentence": [f"{name} sentence {i}" for i in range(len(labels))], "label": labels}, features=features
        )

    def load(name: str, config: str | None, *, split: str | None, **options: Any) -> Any:
        asked.append({"name": name, "config": config, "split": split, **options})
        if split not in (None, "train"):
            raise ValueError(f"Unknown split {split!r}. Should be one of ['train', 'test'].\nmore")
        return everything["train"] if split else everything

    everything = datasets.DatasetDict(
        {
            "train": split([0, 1] * 20, "train"),
            "validation": split([0, 1] * 5, "valid"),
            "test": split([-1] * 6, "test"),
        }
    )
    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path / "snapshots" / "c0ffee"))
    return asked


def test_hub_data_become_parquet_once(tmp_path: Path, hub_data: list[dict[str, Any]]) -> None:
    for _ in range(2):
        found = fetch("hf://a/b@main?config=c", tmp_path / "cache", tmp_path, "data")
    assert sorted(p.name for p in found.iterdir()) == ["test.parquet", "train.parquet", "validation.parquet"]
    assert [(a["name"], a["config"], a["revision"]) for a in hub_data] == [("a/b", "c", "c0ffee")]


def test_one_split_of_hub_data_is_one_file(tmp_path: Path, hub_data: list[dict[str, Any]]) -> None:
    assert fetch("hf://a/b@main?split=train", tmp_path / "cache", tmp_path, "data").name == "data.parquet"
    with pytest.raises(UserError, match=r"Unknown split 'dev'"):
        fetch("hf://a/b@main?split=dev", tmp_path / "cache", tmp_path, "data")


def test_class_names_of_the_hub_reach_the_rows_and_hidden_labels_do_not(
    tmp_path: Path, hub_data: list[dict[str, Any]]
) -> None:
    from tasks.prepare.read import read
    from tasks.prepare.rows import clean
    from tasks.recipe.schema import Data

    data = Data(
        source="hf://a/b@main", text="sentence", text_pair=None, label="label", labels=("negative", "positive"),
        separator=",", unescape=False, deduplicate=True, group=None, validation=0.1, test=0.1, limit=None,
        max_chars=1000,
        unit="line",
    )  # fmt: skip
    found = clean(read(fetch(data.source, tmp_path / "cache", tmp_path, "data"), data), data)
    assert {name: len(rows) for name, rows in found.splits.items()} == {"train": 40, "validation": 10}
    assert found.dropped["unlabelled"] == 6
