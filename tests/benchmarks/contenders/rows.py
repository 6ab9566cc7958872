"""The prepared rows as PyTorch tools want them."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from contenders.settings import BATCH
from tasks.text.data import Split, read_split


def loader(prepared: Path, seed: int) -> "DataLoader[Any]":
    """Training rows in shuffled batches of 32, padded to the longest: `input_ids`, `attention_mask`, `labels`."""
    split = read_split(prepared, "train")
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(
        range(len(split)),  # type: ignore[arg-type]
        BATCH,
        shuffle=True,
        generator=generator,
        collate_fn=lambda rows: {**tensors(split, rows), "labels": torch.from_numpy(split.labels[rows])},
    )


def tensors(split: Split, rows: list[int]) -> dict[str, Tensor]:
    """The given rows as a padded batch."""
    return {name: torch.from_numpy(array) for name, array in split.batch(rows).items()}


def singly(prepared: Path, count: int, seed: int) -> list[dict[str, Any]]:
    """Training rows one by one, as arrays of shape (1, length), to calibrate on."""
    split = read_split(prepared, "train")
    chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:count]
    return [split.batch([row]) for row in chosen.tolist()]
