"""The plain fine-tuning loop of contenders whose tool brings none."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import get_scheduler

Loss = Callable[[Tensor, dict[str, Tensor]], Tensor]
"""(logits, batch) to a mean."""


def cross_entropy(smoothing: float = 0.0) -> Loss:
    """On the true labels."""
    return lambda logits, batch: F.cross_entropy(logits, batch["labels"], label_smoothing=smoothing)


def distillation(teacher: nn.Module, temperature: float, alpha: float) -> Loss:
    """alpha of the true labels, the rest of the teacher's logits, times T^2 (Hinton, Vinyals & Dean, 2015)."""
    teacher.eval()

    def loss(logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            taught = teacher(**inputs(batch)).logits.float()
        logits = logits.float()
        soft = F.kl_div(
            F.log_softmax(logits / temperature, -1), F.log_softmax(taught / temperature, -1),
            reduction="batchmean", log_target=True,
        )  # fmt: skip
        return alpha * F.cross_entropy(logits, batch["labels"]) + (1 - alpha) * temperature**2 * soft

    return loss


def inputs(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """A batch without its labels."""
    return {name: tensor for name, tensor in batch.items() if name != "labels"}


def recover(
    model: Any, batches: Iterable[dict[str, Tensor]], steps: int, loss: Loss, *,
    rate: float, schedule: str = "linear", warmup: float = 0.1, decay: float = 0.01, mixed: bool = True,
) -> None:  # fmt: skip
    """Trains so many steps by AdamW, the gradient clipped to norm 1; leaves the model in eval mode.

    Args:
        batches: one epoch, shuffled anew each time it is gone through.
        schedule: of the learning rate after the warm-up, as transformers names them.
        mixed: in bf16 where the product trains in bf16, else in float32.
    """
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate, weight_decay=decay)
    scheduler = get_scheduler(schedule, optimizer, round(warmup * steps), steps)
    model.train()
    for batch in islice(endless(batches), steps):
        with precision() if mixed else nullcontext():
            lost = loss(model(**inputs(batch)).logits, batch)
        lost.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    model.eval()


def precision(*, steps: bool = False) -> AbstractContextManager[Any]:
    """Mixed precision on a CPU made for bf16, as the product's `precision: auto`.

    Args:
        steps: weights change within the block, so their casts must not be kept.
    """
    made = torch.cpu._is_avx512_bf16_supported()
    return torch.autocast("cpu", torch.bfloat16, enabled=made, cache_enabled=not steps)


def endless(batches: Iterable[Any]) -> Iterable[Any]:
    """Epoch after epoch."""
    while True:
        yield from batches


def without_dropout(model: nn.Module) -> None:
    """Sets every dropout to 0, as the quickstart trains."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
