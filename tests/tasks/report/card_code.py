"""The code of a model card, run where Secateur cannot be imported."""

import os
import re
import subprocess
import sys
from pathlib import Path

HIDE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tasks", "flows", "params"):
            raise ImportError(f"{name} is not installed here")
sys.meta_path.insert(0, Hidden())
"""


def run(card: str, directory: Path, **replaced: str) -> list[list[str]]:
    """The printed lines of each block of Python in `card`, run in `directory` with some of its texts replaced."""
    found = []
    for block in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        for old, new in replaced.items():
            assert old in block
            block = block.replace(old, new)
        done = subprocess.run(
            [sys.executable, "-P", "-c", HIDE + block],
            cwd=directory,
            env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(directory.parent / "hub"), "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found.append(done.stdout.splitlines())
    return found
