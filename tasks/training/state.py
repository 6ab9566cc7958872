"""A training's state on disk, in safetensors alone: whole or absent, and exact when read back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tasks.core.files import read_json, whole, write_json


@dataclass
class History:
    """What happened so far."""

    step: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    """Training loss: step, epoch, loss (mean since the last entry)."""
    validation: list[dict[str, float]] = field(default_factory=list)
    """After each epoch, the last of which may be a part of one: epoch, quality, loss."""
    pending: list[float] = field(default_factory=list)
    """Losses since the last entry of the curve."""
    extras: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    """Curve of each extra: step, epoch and its figures."""
    unready: int = 0
    """Leading entries of `validation` whose weights could not be the result yet (see `Extra.ready`)."""

    def record(self) -> dict[str, Any]:
        """What training.json holds: both curves, those of the extras by their names, and the epoch of the result."""
        best = {"best_epoch": self.validation[self.best()]["epoch"]}
        return {"curve": self.curve, "validation": self.validation, **best, **self.extras}

    def best(self) -> int:
        """Index into `validation` of the entry of best quality, the first of equals, among those that may be it."""
        qualities = [entry["quality"] for entry in self.validation[self.unready :]]
        return self.unready + qualities.index(max(qualities))


class Keeper(Protocol):
    """Holds tensors that a training's state must hold too."""

    def state(self) -> dict[str, torch.Tensor]:
        """The tensors, by name."""

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Takes them back."""


def save_state(
    directory: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    history: History,
    rank: int,
    keeper: Keeper | None = None,
) -> None:
    """Writes weights, optimizer, random state and history; call it in every process, each writes its own part."""
    with whole(directory / f"process-{rank}") as out:
        if rank == 0:
            save_file(
                {k: v.detach().cpu().contiguous() for k, v in model.named_parameters()}, out / "model.safetensors"
            )
            moments: dict[str, torch.Tensor] = {}
            for index, state in optimizer.state_dict()["state"].items():
                moments |= {f"{index}.{name}": value.detach().cpu() for name, value in state.items()}
            save_file(moments, out / "optimizer.safetensors")
            if keeper:
                kept = {k: v.detach().cpu().contiguous() for k, v in keeper.state().items()}
                save_file(kept, out / "extras.safetensors")
        random = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            random["cuda"] = torch.cuda.get_rng_state()
        save_file(random, out / "random.safetensors")
        write_json(out / "history.json", asdict(history))


def load_state(
    directory: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    rank: int,
    world: int,
    keeper: Keeper | None = None,
) -> History:
    """Puts back what `save_state` wrote; a fresh history where there is nothing, or the processes disagree."""
    parts = [directory / f"process-{i}" for i in range(world)]
    if not all(part.is_dir() for part in parts):
        return History()
    histories = [History(**read_json(part / "history.json")) for part in parts]
    if len({history.step for history in histories}) > 1:
        return History()
    weights = load_file(parts[0] / "model.safetensors")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in load_file(parts[0] / "optimizer.safetensors").items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    if keeper:
        keeper.restore(load_file(parts[0] / "extras.safetensors"))
    random = load_file(parts[rank] / "random.safetensors")
    torch.set_rng_state(random["cpu"])
    if "cuda" in random:
        torch.cuda.set_rng_state(random["cuda"])
    return histories[rank]
