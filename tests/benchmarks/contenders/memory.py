"""Resident memory that an artefact takes: `python -m contenders.memory DIRECTORY PREPARED`."""

import sys
from functools import partial
from pathlib import Path

import numpy as np

from contenders.opening import open_artefact
from contenders.settings import THREADS
from tasks.evaluate.timing import peak_memory
from tasks.text.data import read_split


def main(directory: Path, prepared: Path) -> None:
    """Prints what opening it and one batch of the 32 longest test texts add at the peak, in bytes."""
    import torch

    torch.set_num_threads(THREADS)
    split = read_split(prepared, "test", directory)
    longest = split.batch(np.argsort(split.lengths)[-32:])
    print(peak_memory(partial(open_artefact, directory, THREADS), longest)[1])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
