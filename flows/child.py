"""What happens inside the process of a stage: its environment, the tie to its parent, the work, how it ended."""

import ctypes
import errno
import fcntl
import importlib
import logging
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, TextIO

from flows.redact import redacted
from tasks.core.errors import EnvironmentFault, UserError
from tasks.recipe.job import Job
from tasks.recipe.schema import Recipe

PR_SET_PDEATHSIG = 1
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
MACHINE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE}


class Outcome(NamedTuple):
    """How a stage ended: well, by the user's mistake, by the machine's fault, by a bug, or for it took too much."""

    kind: Literal["done", "user", "machine", "bug", "killed", "limit"]
    message: str = ""


def die_with_parent(parent: int) -> None:
    """Asks the kernel to kill this process when process `parent`, which started it, ends in any way."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise EnvironmentFault(f"prctl failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # it ended before the kernel was asked
        os.kill(os.getpid(), signal.SIGKILL)


def environment(recipe: Recipe) -> dict[str, str]:
    """Variables that libraries read when they are imported, so they must be set before."""
    threads = str(recipe.threads or len(os.sched_getaffinity(0)))
    hub = any(source.startswith("hf://") for source in (recipe.model.source, recipe.data.source))
    offline = {} if hub else {"HF_HUB_OFFLINE": "1"}
    return {
        **offline,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "true",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        # Layers of unequal sizes times texts of unequal lengths: more shapes than the 1024 oneDNN keeps kernels for.
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16384",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # without it CUDA's matrix products differ from run to run
    }


def work(job: Job, stages: str, pool: str) -> Outcome:
    """Runs a stage; what went wrong comes back as words, and a bug's traceback goes to stderr.

    Args:
        job: The stage and its paths and params.
        stages: The module whose `run` does it.
        pool: `gpu` or `cpu`; a GPU is used by one stage at a time.
    """
    logger = logging.getLogger("secateur.progress")  # of tasks/core/progress.py
    logger.setLevel(logging.INFO)
    logger.addHandler(_Lines())
    try:
        with _device(pool):
            if pool == "gpu":
                keep_heap()
            importlib.import_module(stages).run(job)
    except UserError as error:
        return Outcome("user", redacted(str(error)))
    except EnvironmentFault as error:
        return Outcome("machine", redacted(str(error)))
    except MemoryError:
        return Outcome("machine", "out of memory")
    except OSError as error:
        if error.errno in MACHINE_ERRNOS:
            return Outcome("machine", f"{error.strerror}: {error.filename}" if error.filename else str(error))
        return _bug(error)
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's; not imported here for its name alone
            return Outcome(
                "machine", f"out of GPU memory; a smaller batch_size or a larger accumulate needs less: {error}"
            )
        return _bug(error)
    return Outcome("done")


def keep_heap() -> None:
    """Has malloc keep what is freed for the next tensor, instead of giving it back to the kernel.

    Training frees and takes the same tensors at each step, and a fifth of its time on a CPU goes into zeroing fresh
    pages; this saves part of that. The process ends with its stage, so nothing is held for long. Tensors above 32 MB,
    the most that glibc allows here, are given back, so that they leave no holes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's; other libraries have none
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, 2**25)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


class _Lines(logging.StreamHandler[TextIO]):
    """A line of progress on stderr, at most one a second and always the last; `flows/progress.py` reads it."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        done, total = getattr(record, "done", 0), getattr(record, "total", 0)
        if done != total and time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + 1
        return True


def _bug(error: Exception) -> Outcome:
    sys.stderr.write(redacted(traceback.format_exc()))
    return Outcome("bug", redacted("".join(traceback.format_exception_only(error)).strip()))


@contextmanager
def _device(pool: str) -> Iterator[None]:
    """Waits until no other stage on this machine uses the GPU; a machine without one does not wait."""
    if pool != "gpu" or not has_gpu():
        yield
        return
    name = os.environ.get("CUDA_VISIBLE_DEVICES", "all").replace("/", "_").replace(",", "_")
    file = Path(tempfile.gettempdir()) / f"secateur-gpu-{name}.lock"
    # Read-only is enough for a lock, and works on a file that another user made.
    descriptor = os.open(file, os.O_RDONLY | (0 if file.exists() else os.O_CREAT), 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # the kernel frees it when this process ends, however it ends
        yield
    finally:
        os.close(descriptor)


def has_gpu() -> bool:
    """Whether there is one, as far as can be told without a library, or the user says so."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "") not in ("", "-1")
    return named or Path("/dev/kfd").exists() or any(Path("/dev").glob("nvidia[0-9]*"))
