"""What a recipe may say of scoring and pruning."""

from dataclasses import replace
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from tasks.recipe.cubic import cubic
from tasks.recipe.goal import Amount, Goal
from tasks.recipe.section import Count, NotNegative, Positive, Section, Share
from tasks.recipe.trainings import Training

KindName = Literal["head", "kv_group", "neuron", "attention", "ffn", "layer", "width", "weight", "vocabulary"]
CostName = Literal["parameters", "flops", "latency"]
COSTS: tuple[CostName, ...] = get_args(CostName)
GoalName = Literal[KindName, CostName]
CriterionName = Literal[
    "random", "magnitude", "magnitude_l1", "gradient", "taylor", "taylor_absolute", "fisher", "activation", "wanda",
    "obs", "obs_fisher",
]  # fmt: skip
PER_ROW = ("wanda",)
"""Criteria that compare single weights within the outputs of a matrix, not over all of it."""
ALONG = ("obs",)
"""Criteria that choose along with the refitting, where there is one; their scores only say how many."""


class Score(Section):
    criterion: Literal[CriterionName, "movement", "l0"]
    compare: tuple[CriterionName, ...]
    rows: Count
    batch_size: Count
    penalty: NotNegative
    target: Annotated[float, Field(gt=0, lt=1)] | None
    gate_rate: Positive
    training: Training


class Number(Section):
    count: Count


class Below(Section):
    threshold: float


class Pattern(Section):
    pattern: Annotated[str, Field(pattern=r"^[1-9]\d*:[1-9]\d*$")]


class Cubic(Section):
    cubic: Share
    count: Count


Removal = Share | Number | Below | Pattern | bool
"""`true` is for the vocabulary alone."""


class Prune(Section):
    kinds: Annotated[tuple[KindName, ...], Field(min_length=1)]
    rounds: Annotated[tuple[Share | dict[GoalName, Removal], ...], Field(min_length=1)] | Cubic
    allocation: Literal["uniform", "global", "sensitivity", "solve"]
    normalize: bool
    align: Count
    reconstruct: bool
    unselected: Literal["remove", "random", "adaptive"]
    rewind: bool
    rows: Count
    sensitivity_rows: Count
    batch_size: Count
    damping: Positive
    vocabulary_min_count: Count
    vocabulary_size: Count | None

    @property
    def units(self) -> tuple[KindName, ...]:
        """The kinds that have scores: all but the vocabulary."""
        return tuple(kind for kind in self.kinds if kind != "vocabulary")

    @property
    def curves(self) -> dict[str, Any] | None:
        """What the curves of sensitivity hang on, where the allocation goes by them."""
        keys = {"align", "reconstruct", "rows", "sensitivity_rows", "batch_size", "damping"}
        return self.model_dump(include=keys, mode="json") if self.allocation in ("sensitivity", "solve") else None

    @property
    def timed(self) -> bool:
        """Whether a round hangs on the table of times."""
        return any(goal.cost == "latency" for goal in self.goals)

    @property
    def drafted(self) -> bool:
        """Whether a quick refitting of what stays is a draft of what this does."""
        return self.reconstruct and self.unselected == "remove" and not self.rewind and "width" not in self.kinds

    @property
    def goals(self) -> tuple[Goal, ...]:
        """What is gone after each round."""
        if isinstance(self.rounds, Cubic):
            shares = cubic(self.rounds.cubic, self.rounds.count)
            goals = tuple(self._goal(round(share, 9)) for share in shares)
        else:
            goals = tuple(self._goal(entry) for entry in self.rounds)
        if "vocabulary" in self.kinds and not any(goal.vocabulary for goal in goals):
            return (replace(goals[0], vocabulary=True), *goals[1:])
        return goals

    def _goal(self, entry: float | dict[GoalName, Removal]) -> Goal:
        if isinstance(entry, float):
            if not self.units:
                raise ValueError(f"a round is {entry}; {_VOCABULARY}, such as rounds: [{{vocabulary: true}}]")
            return Goal({kind: Amount(share=entry) for kind in self.units})
        tokens = "vocabulary" in entry
        if tokens and "vocabulary" not in self.kinds:
            raise ValueError("rounds names vocabulary, kinds does not; name it in both")
        if tokens and entry["vocabulary"] is not True:
            raise ValueError(_VOCABULARY)
        rest = {name: removal for name, removal in entry.items() if name != "vocabulary"}
        for cost in COSTS:
            if cost in rest:
                share = rest[cost]
                if len(rest) > 1 or not isinstance(share, float):
                    raise ValueError(f"a round that names {cost} names nothing else, and a share of it")
                if not self.units:
                    raise ValueError(f"a round names {cost}; {_VOCABULARY}, or name other kinds that are to reach it")
                return Goal(cost=cost, share=share, vocabulary=tokens)
        return Goal({kind: _amount(kind, rest[kind]) for kind in self.units if kind in rest}, vocabulary=tokens)

    @model_validator(mode="after")
    def _only_removes(self) -> "Prune":
        goals = self.goals
        for kind in self.units:
            shares = [goal.kinds[kind].share for goal in goals if kind in goal.kinds]
            known = [share for share in shares if share is not None]
            if known != sorted(known):
                raise ValueError(f"rounds must not fall: {kind} goes through {known}")
        return self

    @model_validator(mode="after")
    def _weights_stand_alone(self) -> "Prune":
        if "weight" in self.kinds and any(goal.cost for goal in self.goals):
            raise ValueError("kinds: a zero costs as much as any weight; give weight a share of its own")
        return self

    @model_validator(mode="after")
    def _has_times(self) -> "Prune":
        if self.timed and self.allocation == "global":
            raise ValueError(
                "a round names latency and allocation is global, which ranks single units, whose times do not add up; "
                "choose solve, sensitivity or uniform"
            )
        both = {
            "width, whose time is no sum over layers": "width" in self.kinds,
            "head and kv_group, of which one holds the other": {"head", "kv_group"} <= set(self.kinds),
            "layer and what lies in it": "layer" in self.kinds and len(self.units) > 1,
        }
        if wrong := [what for what, there in both.items() if self.timed and there]:
            raise ValueError(f"a round names latency and kinds {'; '.join(wrong)}; leave one out")
        return self


_VOCABULARY = "vocabulary goes by what the data use, not by a share: write vocabulary: true in the round it goes in"


def _amount(kind: str, removal: Removal) -> Amount:
    if isinstance(removal, bool):
        raise ValueError(f"true is for the vocabulary; of {kind} give a share, {{count: …}} or {{threshold: …}}")
    if isinstance(removal, Number):
        return Amount(count=removal.count)
    if isinstance(removal, Below):
        return Amount(threshold=removal.threshold)
    if isinstance(removal, float):
        return Amount(share=removal)
    if kind != "weight":
        raise ValueError(f"a pattern is for single weights, not for {kind}")
    kept, every = map(int, removal.pattern.split(":"))
    if kept > every:
        raise ValueError(f"pattern {removal.pattern} keeps more than there are; 2:4 keeps two of four")
    return Amount(pattern=(kept, every))
