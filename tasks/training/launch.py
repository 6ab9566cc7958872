"""Training on several processes of this machine: one for each GPU, or some on the CPU with gloo."""

import os
import socket
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed
from torch.multiprocessing.spawn import start_processes


def launch(work: Callable[..., None], *args: Any, processes: int) -> None:
    """Calls `work(*args)` here (`processes` 1), or in so many processes that train together (0: one for each GPU).

    Args:
        work: a function at the top of a module; it finds its rank by `accelerate.Accelerator`.
        args: go to each process.

    Raises:
        torch.multiprocessing.ProcessRaisedException: one of them failed; the others are ended.
    """
    count = processes or max(1, torch.cuda.device_count())
    if count == 1:
        work(*args)
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start_processes(_process, (count, port, work, args), nprocs=count, start_method="spawn")  # type: ignore[no-untyped-call]


def is_first() -> bool:
    """Whether this is the process that writes the training's result."""
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not together or torch.distributed.get_rank() == 0


def _process(rank: int, count: int, port: int, work: Callable[..., None], args: tuple[Any, ...]) -> None:
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count}
    os.environ |= {name: str(value) for name, value in place.items()}
    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    try:
        work(*args)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
