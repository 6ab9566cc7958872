"""Classification of texts or pairs of texts into two or more classes: one label for each row."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor
from transformers.utils import ModelOutput

from tasks.text.data import Split
from tasks.text.metrics import Metric, accuracy, confusion, macro_f1, matthews
from tasks.text.task import Head, Outputs, Rows, TaskType

SEQUENCE = Head("AutoModelForSequenceClassification", ("logits",))


@dataclass(frozen=True)
class Classification(TaskType):
    """`Split.labels` holds class numbers, shape (rows,); outputs are logits, shape (rows, classes)."""

    labels: tuple[str, ...]

    head: ClassVar[Head] = SEQUENCE
    metrics: ClassVar[Mapping[str, Metric]] = {"accuracy": accuracy, "macro_f1": macro_f1, "matthews": matthews}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """The classes of prepared data."""
        return cls(tuple(facts["labels"]))

    def config(self) -> dict[str, Any]:
        """Number and names of the classes."""
        return names(self.labels)

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Self | None:
        """Any model that gives logits and is not marked as of another type."""
        if config.get("problem_type") == "multi_label_classification" or not classifies(config):
            return None
        return cls(labels_of(config))

    def loss(self, outputs: ModelOutput, split: Split, rows: Rows) -> Tensor:
        """Cross-entropy with the true labels."""
        logits = outputs.logits.float()
        true = torch.from_numpy(split.labels[rows]).to(logits.device)
        return F.cross_entropy(logits, true, reduction="none")

    def soft_loss(
        self,
        outputs: ModelOutput,
        teacher: Tensor,
        split: Split,  # noqa: ARG002
        rows: Rows,  # noqa: ARG002
        temperature: float,
    ) -> Tensor:
        """Over the distribution of the classes."""
        logits = outputs.logits.float()
        target = F.log_softmax(teacher.to(logits.device) / temperature, dim=-1)
        student = F.log_softmax(logits / temperature, dim=-1)
        return temperature**2 * F.kl_div(student, target, reduction="none", log_target=True).sum(-1)

    def predict(self, outputs: Outputs, split: Split, config: Mapping[str, Any]) -> NDArray[np.int64]:  # noqa: ARG002
        """The class of the largest logit, shape (rows,)."""
        return np.asarray(outputs.argmax(-1), np.int64)

    def cells(self, predictions: NDArray[np.int64], split: Split) -> NDArray[np.float64]:
        """Confusion cells, shape (rows, true, predicted)."""
        return confusion(split.labels, predictions, len(self.labels))

    def truth(self, split: Split) -> dict[str, Any]:
        """The true class numbers."""
        return {"label": split.labels}

    def weights(self, split: Split) -> NDArray[np.float32]:
        """By class: rows / (classes * rows of the class)."""
        return class_weights(split.labels)[split.labels]


def class_weights(labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Weight of each class: rows / (classes * rows of the class)."""
    counts = np.bincount(labels)
    return (len(labels) / (len(counts) * np.maximum(counts, 1))).astype(np.float32)


def names(labels: tuple[str, ...]) -> dict[str, Any]:
    """Config entries that say how many classes there are and what they are called."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {name: i for i, name in enumerate(labels)},
    }


def labels_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the classes in a config.json, in the order of their numbers; transformers leaves out a default two."""
    found = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    return tuple(found[key] for key in sorted(found, key=int))


def classifies(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is that of a sequence classifier."""
    return any(name.endswith("ForSequenceClassification") for name in config.get("architectures") or [])
