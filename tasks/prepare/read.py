"""The files of a source: which there are, unpacked, one `Table` for each split."""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from tasks.core.errors import EnvironmentFault, UserError
from tasks.prepare.formats import FORMATS, File
from tasks.prepare.table import Table
from tasks.recipe.schema import Data

SPLITS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation"}
SPLITS["test"] = "test"
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.decompress,
    "bz2": bz2.decompress,
    "xz": lzma.decompress,
}
DAMAGED = (
    OSError,
    ValueError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
)


def read(path: Path, data: Data, *, labelled: bool = True) -> dict[str, Table]:
    """The tables of a source by split; a single file is `train`.

    Args:
        path: a file, or a directory with train.*, and maybe validation.* (valid.*, val.*, dev.*) and test.*.
        data: which columns are wanted.
        labelled: whether the lines of a .txt have labels.

    Raises:
        UserError: no such files, an unknown extension, a file that is empty, damaged, not UTF-8 or not readable.
        EnvironmentFault: the disk failed.
    """
    if path.is_file():
        return {"train": _table(path, data, labelled)}
    found: dict[str, Path] = {}
    for file in sorted(p for p in path.iterdir() if p.is_file()):
        split = SPLITS.get(file.name.partition(".")[0])
        if split in found:
            raise UserError(f"data.source: {path.name} has both {found[split].name} and {file.name}; keep one of them")
        if split:
            found[split] = file
    if "train" not in found:
        there = ", ".join(sorted(p.name for p in path.iterdir())[:10]) or "nothing"
        raise UserError(f"data.source: {path.name} holds no train.* ({', '.join(FORMATS)}); in it is {there}")
    return {split: _table(found[split], data, labelled) for split in ("train", "validation", "test") if split in found}


def _table(path: Path, data: Data, labelled: bool) -> Table:
    try:
        raw = path.read_bytes()
    except PermissionError:
        raise UserError(f"{path.name}: permission denied; make it readable for the user who runs secateur") from None
    except OSError as error:
        raise EnvironmentFault(f"{path.name}: cannot be read from the disk: {error.strerror}") from None
    name, packed = path.name, path.suffix[1:].lower()
    if packed in COMPRESSIONS or packed == "zip":
        try:
            inner, raw = _member(raw, path.name) if packed == "zip" else (path.stem, COMPRESSIONS[packed](raw))
        except DAMAGED as error:
            raise UserError(f"{path.name}: damaged or cut-off {packed} file ({error}); copy it again") from None
        name = inner
    extension = PurePosixPath(name).suffix[1:].lower()
    if extension not in FORMATS:
        allowed = ", ".join(f".{e}" for e in FORMATS)
        raise UserError(
            f"{path.name}: unknown extension {extension!r}; allowed are {allowed}, each also .gz, .bz2, .xz, .zip"
        )
    table = FORMATS[extension](File(raw, path.name, data, labelled)) if raw.strip() else None
    if not table:
        raise UserError(
            f"{path.name}: is empty: it holds no row; give a file with texts{' and labels' if labelled else ''}"
        )
    return table


def _member(raw: bytes, name: str) -> tuple[str, bytes]:
    """Name and bytes of the only file in a zip archive."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        members = [m for m in archive.infolist() if not m.is_dir()]
        if len(members) != 1:
            raise UserError(f"{name}: holds {len(members)} files; a zip archive of data holds exactly one")
        return members[0].filename, archive.read(members[0])
