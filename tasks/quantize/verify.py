"""A graph held against the checkpoint it was made of, on rows that neither was trained or calibrated on."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.text.data import Split
from tasks.text.task import Outputs, TaskType

VERIFIED = "verified.json"
WORST = 10
"""Examples listed."""


def verify(
    source: Outputs, made: Outputs, split: Split, task: TaskType, config: Mapping[str, Any], names: NDArray[np.int64]
) -> dict[str, Any]:
    """How far the outputs of a graph are from those of its source.

    Args:
        source: outputs of the checkpoint for all rows.
        made: outputs of the graph.
        split: the rows.
        task: of the model.
        config: entries of the model's config.
        names: numbers that examples are known by, one for each row, or for each question.

    Returns:
        `examples`, `agreement` (share of examples with the same answer), `max_error` and `mean_error` (absolute
        difference of outputs), `scale` (standard deviation of the source's outputs, to hold them against) and `worst`,
        the examples of the largest error: `index`, `error`, and the answers of `source` and `quantized`.
    """
    there = _there(source, split)
    errors = np.where(there, np.abs(np.where(there, made, 0.0) - np.where(there, source, 0.0)), 0.0)
    largest = errors.reshape(len(split), -1).max(1)
    example = np.arange(len(split)) if split.windows is None else split.windows.example
    seen = np.unique(example)
    answers = [[_plain(answer) for answer in task.predict(outputs, split, config)] for outputs in (source, made)]
    worst = np.zeros(int(seen.max()) + 1)
    np.maximum.at(worst, example, largest)
    first = sorted(seen.tolist(), key=lambda i: (-worst[i], i))[:WORST]
    return {
        "examples": len(seen),
        "agreement": float(np.mean([answers[0][i] == answers[1][i] for i in seen])),
        "max_error": float(errors.max()),
        "mean_error": float(errors[there].mean()),
        "scale": float(source[there].std()),
        "worst": [
            {"index": int(names[i]), "error": float(worst[i]), "source": answers[0][i], "quantized": answers[1][i]}
            for i in first
        ],
    }


def _there(outputs: Outputs, split: Split) -> NDArray[np.bool_]:
    """Which outputs mean something: not those of padding, where there is one for each token."""
    if split.windows is None:
        return np.ones(outputs.shape, bool)
    inside = np.arange(outputs.shape[-1]) < split.lengths[:, None]
    return np.broadcast_to(inside[:, None], outputs.shape)


def _plain(answer: Any) -> Any:
    return answer.tolist() if isinstance(answer, np.ndarray | np.generic) else answer
