"""What the timing ran on, and whether anything else ran."""

import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "onnxruntime", "openvino", "nncf", "torchao", "torch-pruning", "textbrewer")
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
WATCH = 2.0
"""Seconds of watching what others do."""


def machine(threads: int) -> dict[str, Any]:
    """Processor, what of int8 and bf16 it can, versions."""
    facts: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    can = set(facts.get("flags", "").split())
    cores = Path("/proc/cpuinfo").read_text().count("processor\t")
    return {
        "processor": facts.get("model name", platform.machine()),
        "instructions": [name for name in INSTRUCTIONS if name in can],
        "cores": cores,
        "threads": threads,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "date": time.strftime("%Y-%m-%d"),
    }


def busy() -> float:
    """Share of all cores' time that something used while this process slept."""
    start = _jiffies()
    time.sleep(WATCH)
    idle, total = (after - before for before, after in zip(start, _jiffies(), strict=True))
    return 1 - idle / total


def _jiffies() -> tuple[int, int]:
    counts = [int(text) for text in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return counts[3] + counts[4], sum(counts[:8])
