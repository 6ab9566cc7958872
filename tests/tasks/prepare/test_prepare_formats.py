import bz2
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prepare_examples import make_data

from tasks.core.errors import EnvironmentFault, UserError
from tasks.prepare.read import read
from tasks.prepare.rows import clean

ROWS = [{"text": 'a "film", good', "label": "pos"}, {"text": "größer\nzwei", "label": "neg"}]
TEXT = 'text,label\n"a ""film"", good",pos\n"größer\nzwei",neg\n'


def zipped(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def parquet(columns: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


FILES: dict[str, bytes] = {
    "a.csv": TEXT.encode(),
    "b.csv": b"\xef\xbb\xbf" + TEXT.encode(),
    "a.tsv": TEXT.replace(",neg", "\tneg").replace("text,", "text\t").replace('",pos', '"\tpos').encode(),
    "a.jsonl": "\n".join(json.dumps(row) for row in ROWS).encode() + b"\n\n",
    "a.json": json.dumps(ROWS).encode(),
    "a.parquet": parquet({"text": [r["text"] for r in ROWS], "label": [r["label"] for r in ROWS]}),
    "a.csv.gz": gzip.compress(TEXT.encode(), mtime=0),
    "a.csv.bz2": bz2.compress(TEXT.encode()),
    "a.csv.xz": lzma.compress(TEXT.encode()),
    "a.zip": zipped(("inner/a.csv", TEXT.encode())),
    "a.jsonl.gz": gzip.compress(b"\n".join(json.dumps(row).encode() for row in ROWS)),
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_table(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    table = read(tmp_path / name, make_data())["train"]
    assert table.columns == {"text": [r["text"] for r in ROWS], "label": [r["label"] for r in ROWS]}
    assert len(table) == 2


def test_txt_is_label_tab_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("pos\ta film\r\n\nneg\tdull\n", newline="")
    table = read(tmp_path / "a.txt", make_data(text="sentence", label="class"))["train"]
    assert table.columns == {"class": ["pos", "neg"], "sentence": ["a film", "dull"]}
    assert table.at(1) == "a.txt, line 3"


def test_a_tsv_may_hold_bare_quotes(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('text\tlabel\n"the film is good\tpos\nit is "dull" and\tneg\n')
    assert read(tmp_path / "a.tsv", make_data())["train"].columns["text"] == ['"the film is good', 'it is "dull" and']


def test_a_row_is_found_by_the_line_it_starts_in(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,label\n"one\ntwo",pos\n\nthree,neg\n')
    table = read(tmp_path / "a.csv", make_data())["train"]
    assert [table.at(i) for i in range(2)] == ["a.csv, line 2", "a.csv, line 5"]


def test_long_fields_are_read_and_the_limit_of_the_process_stays(tmp_path: Path) -> None:
    import csv

    before = csv.field_size_limit()
    (tmp_path / "a.csv").write_text(f"text,label\n{'x' * 200_000},pos\n")
    assert len(read(tmp_path / "a.csv", make_data())["train"].columns["text"][0]) == 200_000
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"", r"a\.csv: is empty"),
        ("a.csv", b"text,label\n", r"a\.csv: is empty"),
        ("a.jsonl", b"\n\n", r"is empty"),
        ("a.json", b"[]", r"is empty"),
        ("a.parquet", parquet({"text": [], "label": []}), r"is empty"),
        ("a.csv", b"text,label\na,b\na,b,c\n", r"a\.csv, line 3: 3 fields where the header has 2"),
        ("a.csv", b"text,label\na,b\na\n", r"a\.csv, line 3: 1 fields where the header has 2"),
        ("a.csv", b'text,label\na,b\n"a,b\nc,d\n', r"a\.csv, line 3: cannot be read"),
        ("a.csv", b"text,text\na,b\n", r"names text twice"),
        ("a.tsv", b"text\tlabel\na\tb\tc\n", r"a\.tsv, line 2: 3 fields"),
        ("a.csv", b"text,label\nfa\xe7ade,b\n", r"byte 0xe7 at offset 13 is not UTF-8"),
        ("a.csv", b"\xef\xbb\xbftext,label\nfa\xe7ade,b\n", r"byte 0xe7 at offset 16 is not UTF-8"),
        ("a.csv", "text,label\n".encode("utf-16"), r"at offset 0 is not UTF-8"),
        ("a.jsonl", b'{"text": 1}\n{"text": \n', r"a\.jsonl, line 2: broken JSON at column"),
        ("a.jsonl", b"[1]\n", r"a\.jsonl, line 1: holds a JSON list"),
        ("a.jsonl", b"[" * 100_000 + b"\n", r"a\.jsonl, line 1: "),
        ("a.json", b'{"text": "a"}', r"holds a JSON object; give a list"),
        ("a.json", b"[\n{]", r"broken JSON at line 2, column 2"),
        ("a.json", b"[1]", r"a\.json, row 1: holds a JSON number"),
        ("a.txt", b"pos\ta\nno label\n", r"a\.txt, line 2: 0 tabs; a line is LABEL<tab>TEXT"),
        ("a.txt", b"pos\ta\tb\n", r"a\.txt, line 1: 2 tabs"),
        ("a.parquet", FILES["a.parquet"][:-20], r"damaged or cut-off parquet"),
        ("a.parquet", FILES["a.parquet"][:100] + FILES["a.parquet"][110:], r"damaged or cut-off parquet"),
        ("a.csv.gz", FILES["a.csv.gz"][:-12], r"damaged or cut-off gz"),
        ("a.csv.bz2", FILES["a.csv.bz2"][:-4], r"damaged or cut-off bz2"),
        ("a.csv.xz", FILES["a.csv.xz"][:-4], r"damaged or cut-off xz"),
        ("a.zip", FILES["a.zip"][:-4], r"damaged or cut-off zip"),
        ("a.zip", zipped(("a.csv", b"x"), ("b.csv", b"x")), r"holds 2 files"),
        ("a.xlsx", b"x", r"unknown extension 'xlsx'; allowed are \.csv"),
        ("a.pkl", b"x", r"unknown extension 'pkl'"),
        ("a.py.gz", gzip.compress(b"x", mtime=0), r"unknown extension 'py'"),
        ("a", b"x", r"unknown extension ''"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_message(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=says) as error:
        read(tmp_path / name, make_data())
    assert "\n" not in str(error.value)


def test_a_directory_has_one_file_for_each_split(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no train\.\*.*in it is nothing"):
        read(tmp_path, make_data())
    (tmp_path / "train.csv").write_text(TEXT)
    (tmp_path / "valid.jsonl.gz").write_bytes(FILES["a.jsonl.gz"])
    (tmp_path / "notes.md").write_text("x")
    assert list(read(tmp_path, make_data())) == ["train", "validation"]
    (tmp_path / "dev.csv").write_text(TEXT)
    with pytest.raises(UserError, match=r"both dev\.csv and valid\.jsonl\.gz"):
        read(tmp_path, make_data())


@pytest.mark.parametrize(
    ("fault", "error"),
    [(PermissionError(13, "denied"), UserError), (OSError(5, "Input/output error"), EnvironmentFault)],
)
def test_what_the_disk_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: OSError, error: type[Exception]
) -> None:
    def refuse(*_: object) -> bytes:
        raise fault

    (tmp_path / "a.csv").write_text(TEXT)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(error, match=r"a\.csv"):
        read(tmp_path / "a.csv", make_data())


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(FILES)), at=st.integers(0, 10_000), junk=st.binary(max_size=8), cut=st.integers(0, 40)
)
def test_damage_is_a_user_error_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, name: str, at: int, junk: bytes, cut: int
) -> None:
    content = FILES[name]
    at %= len(content)
    path = tmp_path_factory.mktemp("damaged") / name
    path.write_bytes(content[:at] + junk + content[at + cut :])
    with suppress(UserError):
        clean(read(path, make_data()), make_data())


def test_a_pickle_is_never_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    def loads(*_: object, **__: object) -> Callable[..., Any]:
        raise AssertionError("pickle")

    monkeypatch.setattr(pickle, "loads", loads)
    monkeypatch.setattr(pickle, "load", loads)
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
        read(tmp_path / name, make_data())
