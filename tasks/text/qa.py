"""Extractive question answering: the answer is a span of the context, or, if allowed, there is none."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor
from transformers.utils import ModelOutput

from tasks.text.data import Split, Windows
from tasks.text.metrics import Metric, Values
from tasks.text.spans import Answers, best_spans
from tasks.text.squad import exact_match, f1
from tasks.text.task import Head, Outputs, Rows, TaskType

HIDDEN = -1e30
"""Logit of padding: no part of any distribution, and finite, so that 0 times it is 0."""
THRESHOLD = "null_threshold"
"""Config entry: the margin of no answer over the best one above which a model answers nothing."""


def mean_exact_match(sums: Values) -> Values:
    """Share of the examples whose answer is exactly right."""
    return np.asarray(sums[..., 0] / sums[..., 2])


def mean_f1(sums: Values) -> Values:
    """Mean F1 of the examples, between 0 and 1."""
    return np.asarray(sums[..., 1] / sums[..., 2])


@dataclass(frozen=True)
class QuestionAnswering(TaskType):
    """Rows are windows of a context: `Split.labels` holds first and last token of the answer, shape (rows, 2).

    A window without the answer points to the token that stands for none. Outputs are start and end logits, shape
    (rows, 2, length); what stands behind a row's tokens means nothing and has no part in any loss.
    """

    max_length: int
    """Tokens of a window."""
    doc_stride: int
    """Tokens that neighbouring windows share."""
    max_answer: int
    """Most tokens of an answer."""
    no_answer: bool
    """Whether a question may have none."""

    head: ClassVar[Head] = Head("AutoModelForQuestionAnswering", ("start_logits", "end_logits"))
    metrics: ClassVar[Mapping[str, Metric]] = {"f1": mean_f1, "exact_match": mean_exact_match}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """The settings of the recipe's task."""
        return cls(**{name: facts["task"][name] for name in ("max_length", "doc_stride", "max_answer", "no_answer")})

    def config(self) -> dict[str, Any]:
        """A head of two numbers per token, and these settings, for who uses the model."""
        return {"num_labels": 2, "question_answering": asdict(self)}

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Self | None:
        """A model that Secateur trained for this type."""
        return cls(**config["question_answering"]) if "question_answering" in config else None

    def loss(self, outputs: ModelOutput, split: Split, rows: Rows) -> Tensor:
        """Cross-entropy of the first and of the last token over the tokens of the window, their mean."""
        logits = _logits(outputs, split, rows)
        true = torch.from_numpy(split.labels[rows]).to(logits.device)
        losses = F.cross_entropy(logits.flatten(0, 1), true.flatten(), reduction="none")
        return losses.view(-1, 2).mean(-1)

    def soft_loss(self, outputs: ModelOutput, teacher: Tensor, split: Split, rows: Rows, temperature: float) -> Tensor:
        """Over the distributions of the first and of the last token, their mean."""
        logits = _logits(outputs, split, rows)
        taught = teacher[..., : logits.shape[-1]].to(logits.device)
        target = F.log_softmax(_hidden(taught, split, rows) / temperature, dim=-1)
        student = F.log_softmax(logits / temperature, dim=-1)
        return temperature**2 * F.kl_div(student, target, reduction="none", log_target=True).sum(-1).mean(-1)

    def predict(self, outputs: Outputs, split: Split, config: Mapping[str, Any]) -> list[str]:
        """The best span's text, or an empty one where the margin of no answer is above the model's threshold."""
        windows = _windows(split)
        threshold = config.get(THRESHOLD, 0.0) if self.no_answer else np.inf
        return _texts(best_spans(outputs, windows, self.max_answer), windows, threshold)

    @property
    def tunes(self) -> bool:
        """The threshold, if there may be no answer."""
        return self.no_answer

    def tune(self, outputs: Outputs, validation: Split) -> dict[str, Any]:
        """The threshold of no answer with the highest F1."""
        if not self.no_answer:
            return {}
        windows = _windows(validation)
        answers = best_spans(outputs, windows, self.max_answer)
        texts = _texts(answers, windows, np.inf)
        gain = [f1(text, true) - f1("", true) for text, true in zip(texts, windows.answers, strict=True)]
        return {THRESHOLD: best_threshold(np.array([answer.margin for answer in answers]), np.array(gain))}

    def cells(self, predictions: Sequence[str], split: Split) -> NDArray[np.float64]:
        """Exact match, F1 and 1, shape (examples, 3)."""
        pairs = zip(predictions, _windows(split).answers, strict=True)
        return np.array([[exact_match(answer, true), f1(answer, true), 1.0] for answer, true in pairs])

    def truth(self, split: Split) -> dict[str, Any]:
        """Names of the questions, and the true answers."""
        windows = _windows(split)
        return {"id": windows.ids, "answers": windows.answers}


def best_threshold(margins: NDArray[np.float64], gains: NDArray[np.float64]) -> float:
    """The threshold t of highest total gain of the examples with margin <= t: halfway to the next margin.

    Args:
        margins: how much more speaks for no answer, per example.
        gains: what answering adds to the metric, per example.
    """
    order = np.argsort(margins, kind="stable")
    ordered, totals = margins[order], np.concatenate([[0.0], np.cumsum(gains[order])])
    ends = np.flatnonzero(np.concatenate([[True], ordered[1:] > ordered[:-1], [True]]))
    best = int(ends[totals[ends].argmax()])
    around = np.concatenate([[ordered[0] - 1], ordered, [ordered[-1] + 1]])[best : best + 2]
    return float(around.mean())


def _logits(outputs: ModelOutput, split: Split, rows: Rows) -> Tensor:
    """Start and end logits, shape (rows, 2, length), in float32, with padding out of the way."""
    return _hidden(torch.stack([outputs.start_logits, outputs.end_logits], dim=1).float(), split, rows)


def _hidden(logits: Tensor, split: Split, rows: Rows) -> Tensor:
    lengths = torch.from_numpy(split.lengths[rows]).to(logits.device)
    padding = torch.arange(logits.shape[-1], device=logits.device) >= lengths[:, None]
    return logits.masked_fill(padding[:, None], HIDDEN)


def _texts(answers: Sequence[Answers], windows: Windows, threshold: float) -> list[str]:
    spans = [None if answer.margin > threshold else answer.spans[0] for answer in answers]
    return ["" if s is None else windows.contexts[i][s[0] : s[1]] for i, s in enumerate(spans)]


def _windows(split: Split) -> Windows:
    if split.windows is None:
        raise ValueError("the split has no windows; prepare it as question answering")
    return split.windows
