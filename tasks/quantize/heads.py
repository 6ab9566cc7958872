"""Heads on inner layers: the mean of the token states to logits, fitted to what the model itself says in the end."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from tasks.families import family_of
from tasks.modeling.inference import forward
from tasks.text.data import Split

RIDGE = 0.01
"""Weight of half the squared norm of a head's standardised weights, beside the mean loss of a row."""
STEPS = 200
"""Most steps of L-BFGS."""
BATCH = 64


class Exit(nn.Module):
    """Hidden states (rows, length, width) and mask (rows, length) to logits (rows, classes)."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """Linear in the mean of the states: `weight` (classes, width), `bias` (classes,)."""
        super().__init__()
        self.linear = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            self.linear.weight.copy_(weight)
            self.linear.bias.copy_(bias)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Logits."""
        return self.linear(mean(hidden, mask))  # type: ignore[no-any-return]


def mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """The mean over the tokens that the mask does not hide, shape (rows, width)."""
    shown = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * shown).sum(1) / shown.sum(1)


def fit_exits(model: PreTrainedModel, after: Sequence[int], rows: Split) -> dict[int, Exit]:
    """A head after each number of layers in `after`; the model stays as it is, and says what is right.

    Args:
        model: a classifier.
        after: numbers of layers, each from 1 to one less than the model has.
        rows: that the heads are fitted on; their labels are not looked at.
    """
    states, logits = _states(model, after, rows)
    soft = F.softmax(torch.from_numpy(logits).double(), -1)
    return {k: Exit(*fit(states[k].double(), soft)) for k in after}


def fit(inputs: Tensor, soft: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (classes, width) and bias (classes,) of the softmax regression on soft targets with a ridge.

    It minimises the mean cross-entropy with `soft` plus RIDGE / 2 times the squared norm of the weights of standardised
    inputs. That is convex; L-BFGS solves it.

    Args:
        inputs: float64, shape (rows, width).
        soft: probabilities, float64, shape (rows, classes).
    """
    centre, scale = inputs.mean(0), inputs.std(0).clamp_min(1e-6)
    standard = (inputs - centre) / scale
    weight = torch.zeros(soft.shape[1], inputs.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(soft.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        loss = F.cross_entropy(standard @ weight.T + bias, soft) + RIDGE / 2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    solved = weight.detach() / scale
    return solved, bias.detach() - solved @ centre


def _states(model: PreTrainedModel, after: Sequence[int], rows: Split) -> tuple[dict[int, Tensor], NDArray[np.float32]]:
    """Mean token states after each number of layers, shape (rows, width), and the model's logits."""
    layers: Any = model.get_submodule(family_of(model.config.model_type).layers)
    kept: dict[int, Tensor] = {}
    hooks = [layers[k - 1].register_forward_hook(_keep(kept, k)) for k in after]
    states: dict[int, Tensor] = {}
    run, logits = forward(model), np.empty(0, np.float32)
    try:
        for chosen in rows.by_length(BATCH):
            batch = rows.batch(chosen)
            said = run(batch)
            if not states:
                logits = np.empty((len(rows), said.shape[1]), np.float32)
                states = {k: torch.empty(len(rows), hidden.shape[-1]) for k, hidden in kept.items()}
            logits[chosen] = said
            mask = torch.from_numpy(batch["attention_mask"])
            for k, hidden in kept.items():
                states[k][torch.from_numpy(chosen)] = mean(hidden.cpu(), mask)
    finally:
        for hook in hooks:
            hook.remove()
    return states, logits


def _keep(kept: dict[int, Tensor], k: int) -> Any:
    def hook(_: nn.Module, __: Any, output: Any) -> None:
        kept[k] = output[0] if isinstance(output, tuple) else output

    return hook
