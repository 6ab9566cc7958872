"""A model run one layer at a time over calibration rows, so that each layer sees what those below it, changed, give."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tasks.families import family_of
from tasks.modeling.matrices import Matrix, watching
from tasks.text.data import Split

Batches = Sequence[Mapping[str, Tensor]]
"""Inputs of a model, each batch with its `attention_mask` (rows, length)."""
Seen = dict[str, Tensor]
"""By name, the values (tokens, width) that one batch had there."""


def batched(split: Split, batch_size: int, device: torch.device) -> Batches:
    """All rows of a split, those of like length together."""
    batches = (split.batch(rows) for rows in split.by_length(batch_size))
    return [{name: torch.from_numpy(array).to(device) for name, array in batch.items()} for batch in batches]


class Stream:
    """The hidden states of calibration rows on their way through a model's layers.

    Memory: rows * length * width numbers. Time: one pass of the model to begin with, then one of a layer for each call.
    """

    @torch.no_grad()
    def __init__(self, model: PreTrainedModel, batches: Batches) -> None:
        self.family = family_of(model.config.model_type)
        self.layers: Any = model.get_submodule(self.family.layers)
        self.hidden: list[Tensor] = []
        self.calls: list[list[tuple[tuple[Any, ...], dict[str, Any]]]] = []
        """By batch, then layer: what the layer is called with beside hidden states."""
        self.others: int | None = None
        """How many values a layer gives beside hidden states, in a tuple with them; None: it gives these alone."""
        masks = [batch["attention_mask"].bool() for batch in batches]
        self.masks = [(mask.T if self.family.time_major else mask).flatten() for mask in masks]
        with _without_cache(model):
            for batch in batches:
                self._record(model, batch)

    def _record(self, model: PreTrainedModel, batch: Mapping[str, Tensor]) -> None:
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
            model(**batch)
        finally:
            for hook in hooks:
                hook.remove()
        self.calls.append(calls)

    def inputs(
        self, number: int, layer: nn.Module, matrices: Sequence[Matrix], total: str | None = None
    ) -> Iterator[Seen]:
        """Runs `layer` as layer `number`, as far as it must; yields for each batch the inputs of its matrices, by name.

        Those have shape (tokens, inputs); tokens that only fill a batch are left out. So it is with `total`, under this
        name: the input of that module of the layer, or what the layer gives if it is empty.
        """
        totals = () if total is None else (total,)
        for batch in range(len(self.hidden)):
            yield self._look(number, layer, batch, matrices, totals, stop=total != "")[0]

    def advance(
        self, number: int, layer: nn.Module, matrices: Sequence[Matrix] = (), totals: Collection[str] = ()
    ) -> list[Seen]:
        """Puts every batch through `layer` as layer `number`; returns what was seen on the way, as `inputs` does."""
        found = []
        for batch in range(len(self.hidden)):
            seen, self.hidden[batch] = self._look(number, layer, batch, matrices, totals, stop=False)
            found.append(seen)
        return found

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

    def _look(
        self, number: int, layer: nn.Module, batch: int, matrices: Sequence[Matrix], totals: Collection[str], stop: bool
    ) -> tuple[Seen, Tensor]:
        """What was seen, and what the layer gives; that is its input if it was stopped when all had been seen."""
        seen: Seen = {}
        mask, last = self.masks[batch], len(matrices) + len(totals) if stop else 0

        def keep(name: str) -> Callable[[Tensor], None]:
            def consume(x: Tensor) -> None:
                x = x.reshape(-1, x.shape[-1])
                seen[name] = x[mask] if len(x) == len(mask) else x
                if len(seen) == last:
                    raise _AllSeen

            return consume

        out = self.hidden[batch]
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.suppress(_AllSeen))
            stack.enter_context(watching([(matrix, keep(matrix.tensor)) for matrix in matrices]))
            for name in filter(None, totals):
                stack.enter_context(_input_of(layer, name, keep(name)))
            out = self._run(number, layer, batch)
            if "" in totals:
                keep("")(out)
        return seen, out

    @torch.no_grad()
    def _run(self, number: int, layer: nn.Module, batch: int) -> Tensor:
        args, kwargs = self.calls[batch][number]
        out = layer(self.hidden[batch], *args, **kwargs)
        first: Tensor = out[0] if isinstance(out, tuple) else out
        return first


class _AllSeen(Exception):
    """What comes after in the layer is of no use."""


@contextlib.contextmanager
def _input_of(layer: nn.Module, name: str, keep: Callable[[Tensor], None]) -> Iterator[None]:
    hook = layer.get_submodule(name).register_forward_pre_hook(lambda _, args: keep(args[0]))
    try:
        yield
    finally:
        hook.remove()


@contextlib.contextmanager
def _without_cache(model: PreTrainedModel) -> Iterator[None]:
    """Each layer is called with nothing that another call of it would change."""
    before = getattr(model.config, "use_cache", False)
    model.config.use_cache = False
    try:
        yield
    finally:
        model.config.use_cache = before
