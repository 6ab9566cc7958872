"""The table of times (`tasks/evaluate/table.py` measures it): what a group of units saves by the number it keeps."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tasks.allocate.cost import Latency, latency

FILE = "table.json"
BATCH_1, BATCH_32 = 0, 1
"""Places in the table's pairs of seconds: of a single text, of a batch of 32."""


def against_whole(table: Mapping[str, Any], kind: str, at: int) -> dict[int, Latency]:
    """Seconds, 0 or less, that a group takes more than when it is whole, by the number of units it keeps.

    Returns:
        By the dense model's number of the layer.
    """
    found: dict[int, Latency] = {}
    for entry in table["kinds"][kind]:
        saved = [one[at] for one in entry["saved"]] + [0.0]
        times = latency({level: -one for level, one in zip(entry["levels"], saved, strict=True)})
        below = Latency(times.kept, np.minimum(times.seconds, 0.0))  # noise may lift the whole group's above 0
        found |= dict.fromkeys(entry["layers"], below)
    return found
