"""What a model whose vocabulary was pruned says of it: which tokens stay, and its own tokenizer beside it."""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.core.errors import UserError
from tasks.core.files import read_json

Ids = Sequence[int] | NDArray[np.int64]
VOCABULARY = "vocabulary.json"
DOCUMENT = "tokenizer.json"
CONFIG = "tokenizer_config.json"
BESIDE = ("special_tokens_map.json", "chat_template.jinja", "additional_chat_templates")


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that stay."""

    kept: list[int]
    """Old ids in the order of the new ones, ascending."""
    before: int
    """Rows of the embedding there were."""

    @property
    def mapping(self) -> dict[int, int]:
        """Old id to new."""
        return {old: new for new, old in enumerate(self.kept)}

    @property
    def table(self) -> NDArray[np.int64]:
        """New id of each old one, -1 where the token went; shape (before,)."""
        table = np.full(self.before, -1, np.int64)
        table[self.kept] = np.arange(len(self.kept))
        return table

    def renumber(self, token_rows: Iterable[Ids]) -> list[NDArray[np.int64]]:
        """Rows of old ids in the new ones.

        Raises:
            UserError: a row has a token that went.
        """
        table, rows = self.table, []
        for row in token_rows:
            ids = np.asarray(row, np.int64)
            rows.append(table[ids])
            if (rows[-1] < 0).any():
                raise UserError(
                    f"token {ids[rows[-1] < 0][0]} is no longer in the vocabulary; "
                    "encode the texts with the pruned tokenizer"
                )
        return rows


def read_vocabulary(model: Path) -> Vocabulary | None:
    """The vocabulary of the checkpoint or graph in `model`; None if it is that of the data."""
    if not (model / VOCABULARY).is_file():
        return None
    record = read_json(model / VOCABULARY)
    return Vocabulary(record["kept"], record["before"])


def copy_tokenizer(model: Path, prepared: Path, out: Path) -> None:
    """Copies to `out` what the model in `model` reads texts with.

    That is the tokenizer of the prepared data, or, where the model's vocabulary was pruned, its own.
    """
    if read_vocabulary(model) is None:
        shutil.copytree(prepared / "tokenizer", out, dirs_exist_ok=True)
        return
    for name in (VOCABULARY, DOCUMENT, CONFIG, *BESIDE):
        if (model / name).is_dir():
            shutil.copytree(model / name, out / name, dirs_exist_ok=True)
        elif (model / name).is_file():
            shutil.copyfile(model / name, out / name)
