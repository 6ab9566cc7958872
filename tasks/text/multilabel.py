"""Multi-label classification: any number of labels for each row, each decided by itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from transformers.utils import ModelOutput

from tasks.text.classification import SEQUENCE, classifies, labels_of, names
from tasks.text.data import Split
from tasks.text.metrics import Metric, Values
from tasks.text.task import Head, Outputs, Rows, TaskType

PROBLEM = "multi_label_classification"


def micro_f1(sums: Values) -> Values:
    """2 TP / (true + predicted) over all labels together; 0 where there are neither."""
    hits, found = sums[..., 0, :-1].sum(-1), sums[..., 1, :-1].sum(-1)
    return np.asarray(np.divide(2 * hits, found, out=np.zeros_like(hits), where=found > 0))


def label_macro_f1(sums: Values) -> Values:
    """Mean over the labels of 2 TP / (true + predicted), which is 0 where there are neither."""
    hits, found = sums[..., 0, :-1], sums[..., 1, :-1]
    return np.asarray(np.divide(2 * hits, found, out=np.zeros_like(hits), where=found > 0).mean(-1))


def subset_accuracy(sums: Values) -> Values:
    """Share of the rows whose labels are all right."""
    return np.asarray(sums[..., 0, -1] / sums[..., 1, -1])


@dataclass(frozen=True)
class MultiLabel(TaskType):
    """`Split.labels` holds 0 or 1 for each label, shape (rows, labels); so are outputs, as logits."""

    labels: tuple[str, ...]

    head: ClassVar[Head] = SEQUENCE
    metrics: ClassVar[Mapping[str, Metric]] = {
        "micro_f1": micro_f1,
        "macro_f1": label_macro_f1,
        "subset_accuracy": subset_accuracy,
    }

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """The labels of prepared data."""
        return cls(tuple(facts["labels"]))

    def config(self) -> dict[str, Any]:
        """Number and names of the labels, and transformers' word for the type."""
        return {**names(self.labels), "problem_type": PROBLEM}

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Self | None:
        """A classifier that is marked as multi-label."""
        return cls(labels_of(config)) if config.get("problem_type") == PROBLEM and classifies(config) else None

    def loss(self, outputs: ModelOutput, split: Split, rows: Rows) -> Tensor:
        """Binary cross-entropy, the mean over the labels."""
        logits = outputs.logits.float()
        true = torch.from_numpy(split.labels[rows]).to(logits.device, logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, true, reduction="none").mean(-1)

    def soft_loss(
        self,
        outputs: ModelOutput,
        teacher: Tensor,
        split: Split,  # noqa: ARG002
        rows: Rows,  # noqa: ARG002
        temperature: float,
    ) -> Tensor:
        """Over the two outcomes of each label, the mean over the labels."""
        logits = outputs.logits.float() / temperature
        target = teacher.to(logits.device) / temperature
        yes = target.sigmoid() * (F.logsigmoid(target) - F.logsigmoid(logits))
        no = (-target).sigmoid() * (F.logsigmoid(-target) - F.logsigmoid(-logits))
        return temperature**2 * (yes + no).mean(-1)

    def predict(self, outputs: Outputs, split: Split, config: Mapping[str, Any]) -> list[list[int]]:  # noqa: ARG002
        """The numbers of the labels of positive logit, that is of probability above 1/2, row by row."""
        return [np.flatnonzero(row > 0).tolist() for row in outputs]

    def cells(self, predictions: list[list[int]], split: Split) -> Values:
        """Shape (rows, 2, labels + 1): of each label hits, and true plus predicted; then if all is right, and 1."""
        predicted = np.zeros(split.labels.shape)
        for row, chosen in enumerate(predictions):
            predicted[row, chosen] = 1
        right = (predicted == split.labels).all(-1)
        counts = np.stack([predicted * split.labels, predicted + split.labels], axis=1)
        return np.concatenate([counts, np.stack([right, np.ones(len(right))], axis=1)[..., None]], axis=-1)

    def truth(self, split: Split) -> dict[str, Any]:
        """The numbers of the true labels."""
        return {"labels": [np.flatnonzero(row).tolist() for row in split.labels]}
