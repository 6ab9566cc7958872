"""What names a stage's result, and what is said of it wherever it is recorded."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any


def key(stage: str, params: Mapping[str, Any], hashes: Mapping[str, str]) -> str:
    """Names a result: the same stage, inputs, params and outs have the same key."""
    return _digest([stage, params, hashes])


def facts(stage: str, outs: Iterable[str], hashes: Mapping[str, str]) -> dict[str, str]:
    """Where a result comes from; tags of a record and of a registered model.

    Args:
        stage: The stage that made it.
        outs: What it made.
        hashes: Of its deps and outs in dvc.lock, by path.
    """
    made = set(outs)
    code = {path: value for path, value in hashes.items() if is_code(path)}
    return {
        "stage": stage,
        "out_md5": " ".join(hashes[out] for out in outs),
        "code_hash": _digest(code),
        "parents": json.dumps(
            {path: value for path, value in hashes.items() if path not in made and not is_code(path)}, sort_keys=True
        ),
    }


def is_code(path: str) -> bool:
    """Whether a dep is code of the pipeline, not data or a model."""
    return path.startswith("tasks/")


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
