"""A graph with a key-value cache as a causal model of transformers, which it generates as."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

PAST, PRESENT = "past_key_values.", "present."
ROOM = 128
"""Positions by which a cache grows at least: it is copied when it does."""


def has_cache(session: Any) -> bool:
    """Whether an open graph takes the keys and values of earlier tokens."""
    return any(entry.name.startswith(PAST) for entry in session.get_inputs())


def alone(session: Any, row: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """All inputs of an open graph for one row of tokens, with nothing before it, that gives logits of every token."""
    caches = {
        entry.name: np.zeros((1, entry.shape[1], 0, entry.shape[3]), np.float32)
        for entry in session.get_inputs()
        if entry.name.startswith(PAST)
    }
    return {"input_ids": row[None], "attention_mask": np.ones_like(row)[None], "logits_to_keep": np.array(0), **caches}


class Cache:
    """Keys and values of the tokens so far, in buffers that ONNX Runtime writes the next ones into."""

    def __init__(self, session: Any, rows: int) -> None:
        self.shapes = {
            entry.name.removeprefix(PAST): (rows, entry.shape[1], entry.shape[3])
            for entry in session.get_inputs()
            if entry.name.startswith(PAST)
        }
        self.buffers: dict[str, NDArray[np.float32]] = {}
        self.length = self.room = 0

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002
        """Positions so far, padded ones too; transformers asks for it by this name."""
        return self.length

    def reserve(self, total: int) -> None:
        """Makes room for so many positions."""
        if total <= self.room:
            return
        self.room = max(total + ROOM, 2 * self.room)
        for name, (rows, heads, width) in self.shapes.items():
            buffer = np.zeros((rows, heads, self.room, width), np.float32)
            if self.length:
                buffer[:, :, : self.length] = self.buffers[name][:, :, : self.length]
            self.buffers[name] = buffer


class GraphModel(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """`tasks/quantize/decoder.py` says which inputs and outputs the graph has. It stays on the CPU."""

    config_class = PreTrainedConfig
    main_input_name = "input_ids"
    _supports_sdpa = True  # the config may name it; the graph has attention of its own

    def __init__(self, config: PreTrainedConfig, session: Any) -> None:
        super().__init__(config)
        self.session = session

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """Of its logits."""
        return torch.float32

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # it makes its own

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        logits_to_keep: int = 0,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """As those of transformers' causal models; the mask covers what is in the cache too."""
        rows, length = input_ids.shape
        cache = Cache(self.session, rows) if past_key_values is None else past_key_values
        total = cache.length + length
        mask = torch.ones(rows, total, dtype=torch.int64) if attention_mask is None else attention_mask
        cache.reserve(total)
        given = self.session.io_binding()
        whole = {"input_ids": input_ids, "attention_mask": mask, "logits_to_keep": torch.tensor(logits_to_keep)}
        for name, tensor in whole.items():
            given.bind_cpu_input(name, np.ascontiguousarray(tensor.numpy()))
        for name, buffer in cache.buffers.items():
            facts = ("cpu", 0, np.float32, buffer.shape, buffer.ctypes.data)
            given.bind_input(PAST + name, *facts)
            given.bind_output(PRESENT + name, *facts)
        given.bind_output("logits")
        self.session.run_with_iobinding(given)
        cache.length = total
        logits = torch.from_numpy(given.get_outputs()[len(cache.buffers)].numpy())
        return CausalLMOutputWithPast(logits=logits, past_key_values=cache)
