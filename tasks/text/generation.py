"""Causal language modelling: how likely a model holds the text that is there, token by token."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from tasks.core.errors import UserError
from tasks.text.data import Split
from tasks.text.metrics import Metric, Values
from tasks.text.task import Head, Outputs, Rows, TaskType

IGNORED = -100
"""Target of a position that counts for nothing."""


def token_losses(outputs: ModelOutput, batch: Mapping[str, Tensor]) -> Tensor:
    """-log p of each token given those before it, in nats, float32, shape (rows, length); 0 for the first and padding.

    Row by row, so that no second copy of a batch's logits is made.
    """
    ids, seen = batch["input_ids"], batch["attention_mask"].bool()
    rows = zip(outputs.logits, ids, strict=True)
    losses = torch.stack([F.cross_entropy(z[:-1].float(), x[1:], reduction="none") for z, x in rows])
    return F.pad(losses.masked_fill(~seen[:, 1:], 0.0), (1, 0))


def log_likelihood(sums: Values) -> Values:
    """Mean over tokens of log p, in nats: minus the logarithm of the perplexity."""
    return np.asarray(-sums[..., 0] / sums[..., 1])


def perplexity(sums: Values) -> Values:
    """exp of the mean over tokens of -log p."""
    return np.asarray(np.exp(sums[..., 0] / sums[..., 1]))


@dataclass(frozen=True)
class Generation(TaskType):
    """`Split.labels` holds the first token of each row that is scored, shape (rows,): those before it are context.

    Rows are blocks of a stream of documents, or windows of one document (`Split.documents`); examples are documents,
    or rows where there are none. Outputs are `token_losses`, shape (rows, length). Losses are computed row by row: in
    float32, over a whole batch and vocabulary, each step of theirs would take as much memory as the logits again.
    """

    head: ClassVar[Head] = Head("AutoModelForCausalLM", ("logits",), token_losses)
    metrics: ClassVar[Mapping[str, Metric]] = {"log_likelihood": log_likelihood}
    figures: ClassVar[Mapping[str, Metric]] = {"perplexity": perplexity}
    causal: ClassVar[bool] = True

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:  # noqa: ARG003
        """There is nothing to know."""
        return cls()

    def config(self) -> dict[str, Any]:
        """Nothing: the head is that of the pre-trained model."""
        return {}

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Self | None:
        """A model with a head for the next token."""
        names = config.get("architectures") or []
        return cls() if any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names) else None

    def check(self, model: PreTrainedModel) -> None:
        """Refuses a model whose earlier outputs depend on a later token: it would see what it is to predict."""
        ids = torch.arange(8, device=model.device)[None] % model.config.vocab_size
        other = ids.clone()
        other[0, -1] = (ids[0, -1] + 1) % model.config.vocab_size
        with torch.inference_mode():
            first, second = (model(input_ids=each).logits[0, :-1] for each in (ids, other))
        if not torch.allclose(first, second, atol=1e-4, rtol=1e-3):
            raise UserError(
                f"a {model.config.model_type} model sees the tokens that it is to predict; task.type generation "
                "needs a causal one, such as gpt2 or llama"
            )

    def loss(self, outputs: ModelOutput, split: Split, rows: Rows) -> Tensor:
        """Mean over the scored tokens of a row of -log p, in nats."""
        targets, counts = _targets(split, rows, outputs.logits.device)
        rows_of = zip(outputs.logits, targets, strict=True)
        return torch.stack([F.cross_entropy(z.float(), true, reduction="sum") for z, true in rows_of]) / counts

    def soft_loss(self, outputs: ModelOutput, teacher: Tensor, split: Split, rows: Rows, temperature: float) -> Tensor:
        """Mean over the scored tokens of a row, over the distribution of the vocabulary."""
        targets, counts = _targets(split, rows, outputs.logits.device)
        found = []
        for mine, its, true in zip(outputs.logits, teacher, targets, strict=True):
            target = F.log_softmax(its[true != IGNORED].float() / temperature, dim=-1)
            student = F.log_softmax(mine[true != IGNORED].float() / temperature, dim=-1)
            found.append(F.kl_div(student, target, reduction="sum", log_target=True))
        return temperature**2 * torch.stack(found) / counts

    def predict(self, outputs: Outputs, split: Split, config: Mapping[str, Any]) -> NDArray[np.float64]:  # noqa: ARG002
        """-log p of each example in nats, the sum over its scored tokens."""
        spans = zip(outputs, split.labels, split.lengths, strict=True)
        losses = [row[first:end].sum(dtype=np.float64) for row, first, end in spans]
        return np.asarray(np.bincount(_examples(split), losses, _count(split)), np.float64)

    def cells(self, predictions: NDArray[np.float64], split: Split) -> NDArray[np.float64]:
        """-log p and the number of scored tokens, shape (examples, 2)."""
        return np.stack([predictions, _tokens(split)], axis=1)

    def truth(self, split: Split) -> dict[str, Any]:
        """Number of scored tokens."""
        return {"tokens": _tokens(split).astype(np.int64)}


def _targets(split: Split, rows: Rows, device: torch.device) -> tuple[Tensor, Tensor]:
    """The next token of each position, `IGNORED` where it is not scored, shape (rows, length); and how many are."""
    ids, first, lengths = split.batch(rows)["input_ids"], split.labels[rows, None], split.lengths[rows, None]
    place = np.arange(ids.shape[1])[None]
    following = np.where((place >= first) & (place < lengths), ids, IGNORED)
    targets = np.concatenate([following[:, 1:], np.full_like(following[:, :1], IGNORED)], axis=1)
    return torch.from_numpy(targets).to(device), torch.from_numpy((lengths - first)[:, 0]).to(device)


def _examples(split: Split) -> NDArray[np.int64]:
    return np.arange(len(split)) if split.documents is None else split.documents.document


def _count(split: Split) -> int:
    return len(split) if split.documents is None else len(split.documents.texts)


def _tokens(split: Split) -> NDArray[np.float64]:
    scored = split.lengths - split.labels
    return np.asarray(np.bincount(_examples(split), scored, _count(split)), np.float64)
