"""Continuations of prompts, greedy or sampled, by transformers' `generate`."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from tasks.core.errors import UserError
from tasks.core.progress import progress

Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class Sampling:
    """How a continuation is chosen."""

    new_tokens: int
    """Most tokens of a continuation."""
    temperature: float = 0.0
    """Logits are divided by it before the softmax; 0 is greedy."""
    top_p: float = 1.0
    """Only the likeliest tokens that together have this probability can be drawn (Holtzman et al., 2020)."""
    seed: int = 0
    """Another one draws another continuation of the same prompt."""

    def check(self) -> None:
        """Refuses what cannot be.

        Raises:
            UserError: with every value that is outside of its bounds.
        """
        wrong = []
        if self.new_tokens < 1:
            wrong.append(f"new_tokens: {self.new_tokens}; at least 1")
        if not self.temperature >= 0:
            wrong.append(f"temperature: {self.temperature}; 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            wrong.append(f"top_p: {self.top_p}; above 0, at most 1")
        if wrong:
            raise UserError("generation: " + "; ".join(wrong))


class Gumbel(LogitsProcessor):  # type: ignore[misc]
    """Adds Gumbel noise, each row's from its own generator: the largest sum is a draw from the softmax.

    So each prompt's draws depend on nothing else in its batch (Gumbel-max trick; Maddison et al., 2014).
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        # On the CPU: a GPU's generator draws other numbers.
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Scores, shape (rows, vocabulary), with noise."""
        size = scores.shape[1]
        noise = torch.stack([torch.empty(size).exponential_(generator=g).log().neg() for g in self.generators])
        return scores + noise.to(scores.device)


def continuations(
    model: PreTrainedModel,
    prompts: Sequence[Tokens],
    sampling: Sampling,
    *,
    pad: int,
    eos: int | None,
    batch_size: int = 8,
) -> list[Tokens]:
    """The new tokens after each prompt, in the prompts' order, up to and without the first `eos`.

    Prompts are padded on the left and masked, so a continuation does not depend on what else is in its batch. The
    same prompt, sampling and model give the same continuation. What the model's generation_config asks for does not
    count. The model stays on its device and in its mode (call `.eval()` first).

    Args:
        model: causal.
        prompts: token ids, shape (tokens,) each.
        sampling: how tokens are chosen.
        pad: token that fills a batch.
        eos: token that ends a continuation; None: all are `new_tokens` long.
        batch_size: prompts at a time.

    Raises:
        UserError: a value of `sampling`, an empty prompt, or one that leaves no room for the new tokens.
    """
    sampling.check()
    _check_lengths(model, prompts, sampling.new_tokens)
    out: list[Tokens] = [np.zeros(0, np.int64)] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    with _own_config(model), torch.inference_mode():
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            for row, new in zip(rows, _batch(model, [prompts[i] for i in rows], sampling, pad, eos), strict=True):
                out[row] = new
            progress("generate", start + len(rows), len(order))
    return out


def _batch(
    model: PreTrainedModel, prompts: list[Tokens], sampling: Sampling, pad: int, eos: int | None
) -> Iterator[Tokens]:
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), pad)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.from_numpy(prompt)
        mask[row, width - len(prompt) :] = 1
    config = GenerationConfig(
        max_new_tokens=sampling.new_tokens, do_sample=False, num_beams=1, pad_token_id=pad, eos_token_id=eos
    )
    made = model.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        generation_config=config,
        logits_processor=_processors(prompts, sampling),
    )
    for row in made[:, width:].cpu().numpy().astype(np.int64):
        ended = eos is not None and eos in row
        yield row[: int(np.argmax(row == eos))] if ended else row


def _processors(prompts: list[Tokens], sampling: Sampling) -> LogitsProcessorList:
    if sampling.temperature == 0:
        return LogitsProcessorList()
    chain = [TemperatureLogitsWarper(float(sampling.temperature))]
    if sampling.top_p < 1:
        chain.append(TopPLogitsWarper(sampling.top_p))
    return LogitsProcessorList([*chain, Gumbel([_seed(prompt, sampling.seed) for prompt in prompts])])


def _seed(prompt: Tokens, seed: int) -> int:
    digest = hashlib.sha256(f"{seed}\n".encode() + prompt.astype("<i8").tobytes()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def _check_lengths(model: PreTrainedModel, prompts: Sequence[Tokens], new: int) -> None:
    longest = getattr(model.config, "max_position_embeddings", None)
    for number, prompt in enumerate(prompts, 1):
        if not len(prompt):
            raise UserError(f"generation: prompt {number} has no token; a prompt has at least one")
        if isinstance(longest, int) and len(prompt) + new > longest:
            raise UserError(
                f"generation: prompt {number} has {len(prompt)} tokens and {new} new ones are asked for; "
                f"this model takes {longest} together: shorten one of them"
            )


@contextmanager
def _own_config(model: PreTrainedModel) -> Iterator[None]:
    """Takes away the model's own generation_config, from which `generate` would fill what is not set."""
    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own
