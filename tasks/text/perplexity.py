"""Perplexity of a causal model by windows that overlap, and each document's part in it.

The windows are those of https://huggingface.co/docs/transformers/perplexity, except that a window's first token is
never scored, so that no token is lost or counted twice, whatever the stride.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from tasks.core.errors import UserError
from tasks.core.progress import progress

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Likelihood:
    """What a model makes of some documents, in their order."""

    nll: Values
    """Negative log-likelihood of each document, summed over its scored tokens, in nats; shape (documents,)."""
    tokens: NDArray[np.int64]
    """Scored tokens of each document, shape (documents,)."""

    @property
    def perplexity(self) -> float:
        """exp of the mean over all scored tokens."""
        return float(perplexity(self.nll.sum(), self.tokens.sum()))


@dataclass(frozen=True)
class Window:
    """Tokens start to end of a document, of which those from `first` on are scored."""

    document: int
    start: int
    first: int
    end: int


def perplexity(nll: Values, tokens: NDArray[np.int64] | Values) -> Values:
    """exp(nll / tokens), elementwise.

    With `times` of shape (resamples, documents) as `Bootstrap` draws them, `perplexity(times @ nll, times @ tokens)`
    are the values of the resamples; the same `times` for two models compare them in pairs.
    """
    return np.asarray(np.exp(np.asarray(nll) / np.asarray(tokens)))


def windows(length: int, max_length: int, stride: int, document: int = 0) -> list[Window]:
    """Windows over a document of `length` tokens, such that each token but the first is scored in exactly one.

    A scored token sees at least `max_length - stride` tokens before it, or all there are.

    Args:
        length: tokens of the document.
        max_length: most tokens of a window.
        stride: how far a window begins after the one before, 1 to `max_length - 1`.

    Raises:
        UserError: a stride or length of a window outside of these bounds.
    """
    if max_length < 2 or not 1 <= stride < max_length:
        raise UserError(
            f"perplexity: windows of {max_length} tokens at stride {stride}; a window has at least 2, "
            "the stride is from 1 to one less than the window"
        )
    found, scored = [], 1
    for start in range(0, length, stride):
        end = min(start + max_length, length)
        if end > scored:
            found.append(Window(document, start, scored, end))
        scored = max(scored, end)
        if end == length:
            break
    return found


@torch.inference_mode()
def likelihood(
    model: PreTrainedModel,
    documents: Sequence[NDArray[np.int64]],
    *,
    max_length: int,
    stride: int,
    batch_size: int = 1,
    prefix: int | None = None,
) -> Likelihood:
    """Scores each document by itself; for one running text, give it as one document.

    Logits are kept for the scored positions alone: the memory is batch × stride × vocabulary, once a window before
    the last has been scored. The model stays on its device and in its mode (call `.eval()` first).

    Args:
        model: causal.
        documents: token ids, shape (tokens,) each.
        max_length: most tokens that the model sees at once, the prefix included.
        stride: see `windows`.
        batch_size: windows at a time.
        prefix: token put before each document (bos or eos), so that the first one is scored too; None: it is not.

    Raises:
        UserError: windows that `windows` refuses, longer than the model's context, or nothing to score.
    """
    longest = getattr(model.config, "max_position_embeddings", None)
    if isinstance(longest, int) and max_length > longest:
        raise UserError(f"perplexity: windows of {max_length} tokens; this model takes at most {longest}")
    if prefix is not None:
        documents = [np.concatenate([[prefix], ids]) for ids in documents]
    nll, tokens = np.zeros(len(documents)), np.zeros(len(documents), np.int64)
    todo = [w for i, ids in enumerate(documents) for w in windows(len(ids), max_length, stride, i)]
    if not todo:
        raise UserError("perplexity: no document has a token to score; give documents of at least two tokens")
    done = 0
    todo.sort(key=_shape)  # equal ones together: no batch is padded
    for _, alike in groupby(todo, key=_shape):
        same = list(alike)
        for start in range(0, len(same), batch_size):
            batch = same[start : start + batch_size]
            ids = torch.from_numpy(np.stack([documents[w.document][w.start : w.end] for w in batch])).to(model.device)
            kept = batch[0].end - batch[0].first
            logits = model(input_ids=ids, use_cache=False, logits_to_keep=kept + 1).logits
            for row, window in enumerate(batch):
                losses = cross_entropy(logits[row, :-1].float(), ids[row, -kept:], reduction="none")
                nll[window.document] += losses.double().sum().item()
                tokens[window.document] += kept
            done += len(batch)
            progress("perplexity", done, len(todo))
    return Likelihood(nll, tokens)


def _shape(window: Window) -> tuple[int, int]:
    return window.end - window.start, window.end - window.first
