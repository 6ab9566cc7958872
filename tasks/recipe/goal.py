"""What a round of pruning is to reach."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Amount:
    """How many units of a kind go; one of the four is given."""

    share: float | None = None
    """Of the dense model's units."""
    count: int | None = None
    """So many of the dense model's units."""
    threshold: float | None = None
    """Those that score below it."""
    pattern: tuple[int, int] | None = None
    """Of single weights: (n, m), n stay of every m consecutive inputs."""


@dataclass(frozen=True)
class Goal:
    """What has to be gone after a round."""

    kinds: Mapping[str, Amount] = field(default_factory=dict)
    """By kind of unit."""
    cost: str | None = None
    """Instead: parameters, flops or latency (of one text, by a table that was measured), over all kinds together."""
    share: float = 0.0
    """Of the dense model's cost."""
    vocabulary: bool = False
    """Whether tokens that the data do not use go too, if they are not gone yet."""

    def as_item(self) -> dict[str, Any]:
        """As plain values, for `dag` in params/pipeline.yaml."""
        tokens = {"vocabulary": True} if self.vocabulary else {}
        if self.cost:
            return {self.cost: self.share, **tokens}
        kinds = {k: {name: v for name, v in asdict(a).items() if v is not None} for k, a in self.kinds.items()}
        return {**kinds, **tokens}
