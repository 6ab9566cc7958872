"""What the pipeline needs to know of a type of task; everything else works for all of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from tasks.text.data import Split
from tasks.text.metrics import Metric

Rows = NDArray[np.int64]
Outputs = NDArray[np.float32]
"""A model's outputs for every row of a split, the first axis; see `TaskType.outputs`."""


@dataclass(frozen=True)
class Head:
    """What a model needs on top of its body."""

    auto: str
    """Class of transformers that builds it, such as `AutoModelForSequenceClassification`."""
    outputs: tuple[str, ...]
    """Fields of the model's output; one is taken as it is, several are stacked along a new second axis."""
    reduce: Callable[[ModelOutput, Mapping[str, Tensor]], Tensor] | None = None
    """(output, batch) to what is kept of a batch instead, the rows first, where the fields are too large to keep."""

    def kept(self, output: ModelOutput, batch: Mapping[str, Tensor]) -> Outputs:
        """What is kept of a model's output for `batch`, the rows first."""
        if self.reduce:
            return np.asarray(self.reduce(output, batch).float().cpu().numpy())
        return joined([output[name].float().cpu().numpy() for name in self.outputs])


def joined(outputs: Sequence[Outputs]) -> Outputs:
    """One output as it is; several stacked along a new second axis."""
    return outputs[0] if len(outputs) == 1 else np.stack(outputs, axis=1)


@dataclass(frozen=True)
class TaskType(ABC):
    """A task. A row is what a model sees at once; an example is what is judged (for most types they are the same)."""

    head: ClassVar[Head]
    metrics: ClassVar[Mapping[str, Metric]]
    """By name; each takes the sum over examples of `cells`; higher is better."""
    figures: ClassVar[Mapping[str, Metric]] = {}
    """As `metrics`, but only to be shown: higher need not be better."""
    causal: ClassVar[bool] = False
    """Whether models predict the next token: text is generated to show what they do, the teacher is asked anew in every
    step (its outputs are too many to keep), and rounds are timed in PyTorch."""

    @classmethod
    @abstractmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """The task of prepared data, whose `data.json` holds `facts`."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Entries of the config of a model that gets a new head; `of_config` reads them back."""

    @classmethod
    @abstractmethod
    def of_config(cls, config: Mapping[str, Any]) -> Self | None:
        """The task that a model's config.json was made for, or None: one of another type."""

    def check(self, model: PreTrainedModel) -> None:  # noqa: B027
        """Refuses a pre-trained model that has the head but cannot be judged by it.

        Raises:
            UserError: why, and which models can.
        """

    @abstractmethod
    def loss(self, outputs: ModelOutput, split: Split, rows: Rows) -> Tensor:
        """Losses of the given rows of `split`, float32, shape (rows,)."""

    @abstractmethod
    def soft_loss(self, outputs: ModelOutput, teacher: Tensor, split: Split, rows: Rows, temperature: float) -> Tensor:
        """T^2 * KL(teacher_T || outputs_T) of the given rows, shape (rows,) (Hinton, Vinyals & Dean, 2015).

        Args:
            outputs: of the student, for `rows`.
            teacher: the teacher's outputs for `rows`.
            temperature: T, divides the outputs of both.
        """

    @abstractmethod
    def predict(self, outputs: Outputs, split: Split, config: Mapping[str, Any]) -> Any:
        """One prediction per example, as a column of a table.

        Args:
            outputs: for all rows of `split`.
            config: entries of the model's config, among them what `tune` found for it.
        """

    @abstractmethod
    def cells(self, predictions: Any, split: Split) -> NDArray[np.float64]:
        """What the metrics count, shape (examples, …)."""

    @abstractmethod
    def truth(self, split: Split) -> dict[str, Any]:
        """Columns of a table that say what is right, an entry per example."""

    @property
    def tunes(self) -> bool:
        """Whether `tune` has anything to choose."""
        return False

    def tune(self, outputs: Outputs, validation: Split) -> dict[str, Any]:  # noqa: ARG002
        """Config entries that are chosen on validation, for a model with these outputs; most types have none."""
        return {}

    def weights(self, split: Split) -> NDArray[np.float32]:
        """Weight of each row's loss where rare classes are to count more, shape (rows,); 1 where there are none."""
        return np.ones(len(split), np.float32)
