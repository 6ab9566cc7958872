"""A state of the past is made of what it had itself, out of git and DVC's cache."""

import hashlib
import json
from pathlib import Path

import yaml

from flows.lineage.state import past
from tests.flows.conftest import commit_all


def cache(root: Path, content: bytes, suffix: str = "") -> str:
    """Puts an object into DVC's cache; its md5."""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() + suffix
    file = root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return md5


def test_a_past_state_does_not_borrow_from_the_present_one(tmp_path: Path) -> None:
    """A dep such as models/rounds has outs below it, and the workspace has one of that name too."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    (tmp_path / ".gitignore").write_text("/models/\n/rows.csv\n.dvc/cache\n")
    weights, rows = cache(tmp_path, b"as it was"), cache(tmp_path, b"old rows")
    listed = json.dumps([{"md5": weights, "relpath": "model.safetensors"}]).encode()
    out = cache(tmp_path, listed, ".dir")
    stages = {
        "finetune@r1": {
            "cmd": "x",
            "deps": [{"path": "rows.csv", "md5": rows}],
            "outs": [{"path": "models/rounds/r1", "md5": out}],
        },
        "quantize@pruned": {
            "cmd": "x",
            "deps": [{"path": "models/rounds", "md5": f"{0:032}.dir"}],
            "outs": [{"path": "models/quantized/pruned", "md5": out}],
        },
    }
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    commit_all(tmp_path)
    for name in ("models/rounds/r1", "models/rounds/r2"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "model.safetensors").write_bytes(b"as it is now")
    (tmp_path / "rows.csv").write_bytes(b"new rows")
    with past(tmp_path, "HEAD") as state:
        assert (state.root / "models/rounds/r1/model.safetensors").read_bytes() == b"as it was"
        assert not (state.root / "models/rounds/r2").exists()
        assert (state.root / "rows.csv").read_bytes() == b"old rows"
        assert state.hashes.md5("models/rounds/r1") == out
