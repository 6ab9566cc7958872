"""A model run one layer at a time over calibration rows, so that each layer sees what those below it, changed, give."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tasks.families import family_of
from tasks.modeling.matrices import Matrix, watching

Batches = Sequence[Mapping[str, Tensor]]
"""Inputs of a model, each batch with its `attention_mask` (rows, length)."""
Loss = Callable[[Any, int], Tensor]
"""(outputs of the model, number of the batch) to losses of its rows."""
EVEN = 0.1
"""Share of a token's weight that all tokens of a row have alike."""


class Stream:
    """The hidden states of calibration rows on their way through a model's layers.

    Memory: rows * length * width numbers. Time: one pass of the model to begin with, then one of a layer for each call.
    """

    def __init__(self, model: PreTrainedModel, batches: Batches, loss: Loss | None = None) -> None:
        self.family = family_of(model.config.model_type)
        self.layers: Any = model.get_submodule(self.family.layers)
        self.hidden: list[Tensor] = []
        self.calls: list[list[tuple[tuple[Any, ...], dict[str, Any]]]] = []
        """By batch, then layer: what the layer is called with beside hidden states."""
        self.others: int | None = None
        """How many values a layer gives beside hidden states, in a tuple with them; None: it gives these alone."""
        masks = [batch["attention_mask"].bool() for batch in batches]
        self.masks = [(mask.T if self.family.time_major else mask).flatten() for mask in masks]
        self.weights: list[list[Tensor]] = []
        """By batch, then layer: how much each live token counts, 1 in the mean of its row; empty without a loss."""
        with _without_cache(model):
            for number, batch in enumerate(batches):
                if loss is None:
                    with torch.no_grad():
                        self._record(model, batch)
                else:
                    self._weigh(model, batch, number, loss)

    def _weigh(self, model: PreTrainedModel, batch: Mapping[str, Tensor], number: int, loss: Loss) -> None:
        """Records, and takes how steep the loss is in each token of each layer's output, by row."""
        outs: list[Tensor] = []

        def note(_: nn.Module, __: Any, out: Any) -> None:
            hidden = out[0] if isinstance(out, tuple) else out
            hidden.retain_grad()
            outs.append(hidden)

        hooks = [layer.register_forward_hook(note) for layer in self.layers]
        try:
            loss(self._record(model, batch), number).sum().backward()  # type: ignore[no-untyped-call]
        finally:
            for hook in hooks:
                hook.remove()
            model.zero_grad(set_to_none=True)
        live = batch["attention_mask"].bool()
        live = live.T if self.family.time_major else live
        place = 0 if self.family.time_major else 1
        weights = []
        for hidden in outs:
            steep = torch.zeros(live.shape) if hidden.grad is None else hidden.grad.double().square().sum(-1)
            steep = steep.masked_fill(~live, 0.0)
            total, tokens = steep.sum(place, keepdim=True), live.sum(place, keepdim=True)
            share = torch.where(total > 0, steep * tokens / total.clamp_min(torch.finfo(steep.dtype).tiny), 1.0)
            weights.append(((1 - EVEN) * share + EVEN).flatten()[live.flatten()].float())
        self.weights.append(weights)
        self.hidden[-1] = self.hidden[-1].detach()

    def _record(self, model: PreTrainedModel, batch: Mapping[str, Tensor]) -> Any:
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

        def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if not calls:
                self.hidden.append(args[0])
            calls.append((args[1:], kwargs))

        def look(_: nn.Module, __: Any, out: Any) -> None:
            self.others = len(out) - 1 if isinstance(out, tuple) else None

        hooks = [layer.register_forward_pre_hook(note, with_kwargs=True) for layer in self.layers]
        hooks.append(self.layers[0].register_forward_hook(look))
        try:
            outputs = model(**batch)
        finally:
            for hook in hooks:
                hook.remove()
        self.calls.append(calls)
        return outputs

    def inputs(self, number: int, layer: nn.Module, matrices: Sequence[Matrix]) -> Iterator[dict[str, Tensor]]:
        """Runs `layer` as layer `number`; yields for each batch the inputs of its matrices, by name.

        Those have shape (tokens, inputs); tokens that only fill a batch are left out.
        """
        for batch in range(len(self.hidden)):
            seen: dict[str, Tensor] = {}
            with watching([(matrix, _keep(seen, matrix, self.masks[batch])) for matrix in matrices]):
                self._run(number, layer, batch)
            yield seen

    def advance(self, number: int, layer: nn.Module) -> None:
        """Puts every batch through `layer` as layer `number`."""
        for batch in range(len(self.hidden)):
            self.hidden[batch] = self._run(number, layer, batch)

    @contextlib.contextmanager
    def below(self, number: int, batch: int) -> Iterator[None]:
        """The model, called with this batch in the block, takes the states here for what layers below `number` give."""
        hidden = self.hidden[batch]
        given = hidden if self.others is None else (hidden, *[None] * self.others)
        skipped = list(self.layers)[:number]
        for layer in skipped:
            layer.forward = lambda *_, **__: given
        try:
            yield
        finally:
            for layer in skipped:
                del layer.forward

    @torch.no_grad()
    def _run(self, number: int, layer: nn.Module, batch: int) -> Tensor:
        args, kwargs = self.calls[batch][number]
        out = layer(self.hidden[batch], *args, **kwargs)
        first: Tensor = out[0] if isinstance(out, tuple) else out
        return first


def _keep(seen: dict[str, Tensor], matrix: Matrix, mask: Tensor) -> Callable[[Tensor], None]:
    def consume(x: Tensor) -> None:
        seen[matrix.tensor] = x[mask] if len(x) == len(mask) else x

    return consume


@contextlib.contextmanager
def _without_cache(model: PreTrainedModel) -> Iterator[None]:
    """Each layer is called with nothing that another call of it would change."""
    before = getattr(model.config, "use_cache", False)
    model.config.use_cache = False
    try:
        yield
    finally:
        model.config.use_cache = before
