"""Bytes of a file to a `Table`. A format is one function and one line in `FORMATS`; none can run code."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.errors import UserError
from tasks.prepare.squad import ID, flat
from tasks.prepare.table import Table
from tasks.recipe.schema import Data


@dataclass(frozen=True)
class File:
    """Bytes to read."""

    raw: bytes
    name: str
    """How messages call it."""
    data: Data
    """Which columns are wanted."""
    labelled: bool = True
    """Whether the lines of a .txt have labels."""

    def text(self) -> str:
        """The bytes as UTF-8.

        Raises:
            UserError: they are not; with the offset of the first wrong byte.
        """
        try:
            return self.raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            start = error.start + (3 if self.raw.startswith(b"\xef\xbb\xbf") else 0)
            wrong = f"byte {self.raw[start]:#04x} at offset {start}"
            raise UserError(f"{self.name}: {wrong} is not UTF-8; save the file as UTF-8") from None


def read_csv(file: File) -> Table:
    """Comma-separated values, quoted as in RFC 4180, with a header."""
    return _separated(file.text(), file.name, ",", quoted=True)


def read_tsv(file: File) -> Table:
    """Tab-separated values with a header; quotes are characters like others where they do not read as quoting."""
    text = file.text()
    try:
        return _separated(text, file.name, "\t", quoted=True)
    except UserError as error:
        try:
            return _separated(text, file.name, "\t", quoted=False)
        except UserError:
            raise error from None


def read_jsonl(file: File) -> Table:
    """One JSON object in a line; empty lines do not count."""
    objects, numbers = [], []
    for number, line in enumerate(file.text().split("\n"), 1):
        if line.strip():
            objects.append(_object(_json(line, f"{file.name}, line {number}"), f"{file.name}, line {number}"))
            numbers.append(number)
    return _records(objects, file.name, "line", numbers)


def read_json(file: File) -> Table:
    """A JSON list of objects, or the nested objects of an official SQuAD file."""
    values = _json(file.text(), file.name)
    if isinstance(values, dict) and isinstance(values.get("data"), list):
        values = flat(values["data"], file.name)
    if not isinstance(values, list):
        raise UserError(
            f"{file.name}: holds a JSON {_json_type(values)}; give a list of objects, or one object a line (.jsonl)"
        )
    objects = [_object(value, f"{file.name}, row {i}") for i, value in enumerate(values, 1)]
    return _records(objects, file.name, "row", list(range(1, len(objects) + 1)))


def read_txt(file: File) -> Table:
    """Lines of a label, a tab and a text; they become the columns `data.label` and `data.text`.

    Without labels the text alone: each line, or lines up to an empty one, as `data.unit` says.
    """
    if not file.labelled:
        return _documents(file)
    labels, texts, numbers = [], [], []
    for number, line in enumerate(file.text().split("\n"), 1):
        if line.strip():
            label, tab, text = line.rstrip("\r").partition("\t")
            if not tab or "\t" in text:
                raise UserError(
                    f"{file.name}, line {number}: {text.count(chr(9)) + len(tab)} tabs; a line is LABEL<tab>TEXT"
                )
            labels.append(label)
            texts.append(text)
            numbers.append(number)
    return Table(file.name, {file.data.label: labels, file.data.text: texts}, "line", numbers)


def read_parquet(file: File) -> Table:
    """Parquet; class numbers of a Hugging Face data set become the names that its schema states."""
    wanted = {file.data.text, file.data.text_pair, file.data.label, file.data.group, ID}
    try:
        parquet = pq.ParquetFile(io.BytesIO(file.raw))
        schema = parquet.schema_arrow
        values = parquet.read([c for c in schema.names if c in wanted], use_threads=False).to_pydict()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(
            f"{file.name}: damaged or cut-off parquet file ({str(error).splitlines()[0]}); copy it again"
        ) from None
    for column in values:
        classes = _class_names(schema, column)
        if classes:
            values[column] = [classes[v] if v is not None and 0 <= v < len(classes) else None for v in values[column]]
    columns = {column: values.get(column, []) for column in schema.names}  # the names alone serve messages
    return Table(file.name, columns, "row", range(1, parquet.metadata.num_rows + 1))


FORMATS: dict[str, Callable[[File], Table]] = {
    "csv": read_csv,
    "tsv": read_tsv,
    "jsonl": read_jsonl,
    "json": read_json,
    "txt": read_txt,
    "parquet": read_parquet,
}


def _documents(file: File) -> Table:
    texts: list[str] = []
    numbers: list[int] = []
    open_one = False
    for number, line in enumerate(file.text().replace("\r\n", "\n").split("\n"), 1):
        if line.strip() and open_one and file.data.unit == "paragraph":
            texts[-1] += f"\n{line}"
        elif line.strip():
            texts.append(line)
            numbers.append(number)
        open_one = bool(line.strip())
    return Table(file.name, {file.data.text: texts}, "line", numbers)


def _separated(text: str, name: str, delimiter: str, *, quoted: bool) -> Table:
    rows: list[list[str]] = []
    numbers: list[int] = []
    with _long_fields():
        reader = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=delimiter,
            quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
            strict=True,
        )
        start = 1
        try:
            for row in reader:
                if row and len(row) != len(rows[0] if rows else row):
                    raise UserError(
                        f"{name}, line {start}: {len(row)} fields where the header has {len(rows[0])}; "
                        "quote fields that hold the separator or a quote"
                    )
                if row:  # an empty line is none
                    rows.append(row)
                    numbers.append(start)
                start = reader.line_num + 1
        except csv.Error as error:
            raise UserError(
                f"{name}, line {start}: cannot be read ({error}); quote fields and double quotes in them"
            ) from None
    header = rows[0] if rows else []
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise UserError(f"{name}: the header names {', '.join(twice)} twice; give every column a name of its own")
    values: list[list[Any]] = [list(column) for column in zip(*rows[1:], strict=True)] or [[] for _ in header]
    return Table(name, dict(zip(header, values, strict=True)), "line", numbers[1:])


@contextmanager
def _long_fields() -> Iterator[None]:
    """Lifts the csv module's limit of 131,072 characters, which holds for the process: `data.max_chars` is ours."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in text else ""
        raise UserError(f"{where}: broken JSON at {line}column {error.colno} ({error.msg})") from None
    except (RecursionError, ValueError) as error:  # nested too deep, a number of thousands of digits
        raise UserError(f"{where}: cannot be read ({error})") from None


def _json_type(value: Any) -> str:
    return {dict: "object", list: "list", str: "string", bool: "boolean", type(None): "null"}.get(type(value), "number")


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where}: holds a JSON {_json_type(value)}; each row is an object with the columns as keys")
    return value


def _records(objects: list[dict[str, Any]], name: str, unit: str, numbers: list[int]) -> Table:
    names = dict.fromkeys(key for item in objects for key in item)
    return Table(name, {key: [item.get(key) for item in objects] for key in names}, unit, numbers)


def _class_names(schema: pa.Schema, column: str) -> list[str] | None:
    """The class names that the `datasets` library wrote into a schema for a column of integers."""
    try:
        feature = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][column]
        names = feature["names"] if feature["_type"] == "ClassLabel" else None
    except (KeyError, TypeError, ValueError):
        return None
    return [str(n) for n in names] if names and pa.types.is_integer(schema.field(column).type) else None
