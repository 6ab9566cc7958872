"""Distillation from the teacher's layers, which runs along: hidden states and attention (TinyBERT, Jiao et al., 2020).

trained = LayerDistillation(teacher, train, hidden=1.0, attention=1.0, layer_map="uniform", pruned=True, bf16=False)
fit(model, ..., joint(objective, trained.losses), ..., extras=[trained])
trained.release(model)
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from tasks.core.errors import UserError
from tasks.families import family_of
from tasks.families.anatomy import ATTENTION, WIDTH, Group
from tasks.recipe.trainings import LayerMap
from tasks.text.data import Split
from tasks.training.extra import Extra, Parameters
from tasks.training.layer_map import fixed, numbers

MODULE = "layer_distillation"
FLOOR = 1e-6
"""Least probability of the student's attention in a logarithm."""
EPSILON = 1e-6


def hidden_loss(student: Tensor, teacher: Tensor, live: Tensor) -> Tensor:
    """Mean squared difference over live tokens and width, in units of the teacher's variance there; shape (rows,).

    The variance is that of all the teacher's entries at the row's live tokens, so it does not depend on the batch.

    Args:
        student: hidden states, shape (rows, length, width).
        teacher: the same shape.
        live: 1 for a token, 0 for what fills the row, shape (rows, length).
    """
    weight = (live / live.sum(1, keepdim=True)).unsqueeze(-1) / teacher.shape[-1]
    mean = (teacher * weight).sum((1, 2), keepdim=True)
    variance = ((teacher - mean) ** 2 * weight).sum((1, 2))
    return ((student - teacher) ** 2 * weight).sum((1, 2)) / (variance + EPSILON)


def attention_loss(student: Tensor, teacher: Tensor, live: Tensor) -> Tensor:
    """KL(teacher || student) of attention, the mean over live tokens that attend, shape (rows,).

    Args:
        student: distributions over the last axis, means over heads, shape (rows, length, length). Attention dropout
            leaves them not quite distributions: they are made so again.
        teacher: the same shape.
        live: 1 for a token, 0 for what fills the row, shape (rows, length).
    """
    student = student / student.sum(-1, keepdim=True).clamp(min=FLOOR)
    least = torch.finfo(teacher.dtype).tiny  # 0 log 0 is 0, and so is its gradient
    each = (teacher * (teacher.clamp(min=least).log() - student.clamp(min=FLOOR).log())).sum(-1)
    return (each * live).sum(1) / live.sum(1)


class LayerDistillation(Extra):
    """Adds hidden * `hidden_loss` + attention * `attention_loss`, each the mean over pairs of layers.

    Trained along: a linear map to the teacher's width for each layer of a student of another width; with a learned map
    the teacher's side of a pair is the sum of all its layers, weighted by a softmax for each layer of the student (as
    ALP-KD, Passban et al., 2021), with equal weights at first. They are parameters of the model until `release`.

    Args:
        teacher: it is moved to the model's device, frozen, and run once for each forward pass of the model.
        train: the training rows.
        hidden: weight of hidden states: what each layer gives, before any norm that follows the last.
        attention: weight of attention; the means over heads are compared, since heads may have been removed.
        layer_map: see `tasks.training.layer_map.fixed`; `learned`: all layers of the teacher, as said above.
        pruned: whether the student was pruned from the teacher: its layers are called by their first numbers.
        bf16: whether the teacher computes its matrix products in bfloat16.
        seed: of the linear maps.
        projection_rate: peak learning rate of the linear maps.
        map_rate: that of the learned map.
    """

    name = "layers"

    def __init__(
        self,
        teacher: PreTrainedModel,
        train: Split,
        *,
        hidden: float,
        attention: float,
        layer_map: LayerMap,
        pruned: bool,
        bf16: bool,
        seed: int = 0,
        projection_rate: float = 1e-3,
        map_rate: float = 3e-2,
    ) -> None:
        self.teacher = teacher
        self.train = train
        self.hidden = hidden
        self.attention = attention
        self.layer_map = layer_map
        self.pruned = pruned
        self.bf16 = bf16
        self.seed = seed
        self.map: nn.Parameter | None = None
        self.rates = {"projections": projection_rate, "map": map_rate}

    def attach(self, model: nn.Module, parameters: Parameters, groups: Sequence[Group]) -> list[dict[str, Any]]:
        """See `Extra.attach`; gains linear maps and weights of layers.

        Raises:
            UserError: the map names a layer that is not there, or attention that was left out.
        """
        assert isinstance(model, PreTrainedModel)  # noqa: S101
        self.device = next(iter(parameters.values())).device
        self.teacher.to(self.device).requires_grad_(False).eval()
        self.teacher.config.use_cache = False
        its_groups = family_of(self.teacher.config.model_type).groups(self.teacher)
        self.attending, self.its_attending = _attending(model, groups), _attending(self.teacher, its_groups)
        mine, its = numbers(model), numbers(self.teacher)
        if not self.pruned:
            mine, its = list(range(len(mine))), list(range(len(its)))
        self.pairs: list[tuple[int, int | None]] = [(s, None) for s in range(len(mine))]
        held = nn.Module()
        if self.layer_map == "learned":
            self.map = held.map = nn.Parameter(torch.zeros(len(mine), len(its), device=self.device))
        else:
            self.pairs = [*fixed(self.layer_map, mine, its, pruned=self.pruned)]
        self._check_attention(range(len(its)))
        self.projections = held.projections = nn.ModuleDict()
        width, its_width = _width(groups), _width(its_groups)
        if self.hidden and width != its_width:
            generator = torch.Generator().manual_seed(self.seed)
            for layer in dict.fromkeys(s for s, _ in self.pairs):
                linear = nn.Linear(width, its_width, bias=False, device="meta")
                start = torch.randn(its_width, width, generator=generator) / math.sqrt(width)
                linear.weight = nn.Parameter(start.to(self.device))
                self.projections[str(layer)] = linear
        model.add_module(MODULE, held)
        sources = range(len(its)) if self.layer_map == "learned" else {t for _, t in self.pairs if t is not None}
        self.inside = _Inside(model, {s for s, _ in self.pairs}, bool(self.hidden), bool(self.attention), True)
        self.its_inside = _Inside(self.teacher, sources, bool(self.hidden), bool(self.attention), False)
        trained = {"projections": [*self.projections.parameters()], "map": [] if self.map is None else [self.map]}
        return [{"params": p, "weight_decay": 0.0, "peak": self.rates[name]} for name, p in trained.items() if p]

    def losses(self, outputs: ModelOutput, rows: NDArray[np.int64]) -> Tensor:
        """The weighted losses of the rows that the model has just seen, shape (rows,); an `Objective`."""
        batch = {name: torch.from_numpy(array).to(self.device) for name, array in self.train.batch(rows).items()}
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            given = self.teacher(**batch)
        live = batch["attention_mask"].float()
        total = live.new_zeros(len(rows))
        if self.hidden:
            mine, its = self.inside.take(), self.its_inside.take()
            each = [hidden_loss(self._projected(s, mine[s]), self._target(s, t, its), live) for s, t in self.pairs]
            total = total + self.hidden * torch.stack(each).mean(0)
        if self.attention:
            mine, its = _means(outputs, self.attending), _means(given, self.its_attending)
            each = [attention_loss(mine[s], self._target(s, t, its), live) for s, t in self.pairs if s in mine]
            total = total + self.attention * torch.stack(each).mean(0)
        return total

    def figures(self) -> dict[str, float]:
        """Of a learned map: which layer of the teacher each layer of the student looks at, in the mean."""
        if self.map is None:
            return {}
        places = self.map.detach().softmax(-1) @ torch.arange(self.map.shape[1], device=self.device).float()
        return {f"layer {s}": place for s, place in enumerate(places.tolist())}

    def release(self, model: nn.Module) -> None:
        """Takes everything off the model again; it gives what it gave."""
        self.inside.release()
        self.its_inside.release()
        delattr(model, MODULE)

    def _projected(self, layer: int, state: Tensor) -> Tensor:
        name = str(layer)
        return self.projections[name](state) if name in self.projections else state

    def _target(self, layer: int, source: int | None, its: Mapping[int, Tensor]) -> Tensor:
        """The teacher's side of a pair: one of its layers, or all of them by the learned map."""
        if source is not None:
            return its[source]
        assert self.map is not None  # noqa: S101
        shares = self.map[layer].softmax(-1)
        return torch.stack([shares[t] * its[t] for t in its]).sum(0)

    def _check_attention(self, every: Sequence[int]) -> None:
        if not self.attention:
            return
        wanted = {t for _, t in self.pairs if t is not None} or set(every)
        if missing := sorted(wanted - set(self.its_attending)):
            raise UserError(f"attention: the teacher has no attention in its layer {missing[0]}; set the weight to 0")
        if not {s for s, _ in self.pairs} & set(self.attending):
            raise UserError("attention: no layer that layer_map names has attention left; set the weight to 0")


class _Inside:
    """Watches a model's layers: keeps what they gave in the last forward pass in one mode, training or not."""

    def __init__(
        self, model: PreTrainedModel, layers: Collection[int], hidden: bool, attention: bool, training: bool
    ) -> None:
        family = family_of(model.config.model_type)
        self.training, self.time_major = training, family.time_major
        self.kept: dict[int, Tensor] = {}
        self.handles = []
        stack = model.get_submodule(family.layers)
        for layer in layers if hidden else ():
            self.handles.append(stack[layer].register_forward_hook(self._keep(layer)))
        if attention:
            model.set_attn_implementation("eager")  # the only one that gives its weights
            self.handles.append(model.register_forward_pre_hook(self._ask, with_kwargs=True))

    def take(self) -> dict[int, Tensor]:
        """Outputs of the layers, float32, shape (rows, length, width); they are kept no longer."""
        found, self.kept = self.kept, {}
        return {k: (v.transpose(0, 1) if self.time_major else v).float() for k, v in found.items()}

    def release(self) -> None:
        for handle in self.handles:
            handle.remove()

    def _keep(self, layer: int) -> Any:
        def keep(module: nn.Module, _: Any, output: Any) -> None:
            if module.training == self.training:
                self.kept[layer] = output[0] if isinstance(output, tuple) else output

        return keep

    def _ask(self, model: nn.Module, args: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**options, "output_attentions": True} if model.training == self.training else options


def _means(outputs: ModelOutput, attending: Sequence[int]) -> dict[int, Tensor]:
    """Means over heads of each layer's attention, float32, shape (rows, length, length)."""
    return {layer: a.float().mean(1) for layer, a in zip(attending, outputs.attentions, strict=True)}


def _attending(model: PreTrainedModel, groups: Sequence[Group]) -> list[int]:
    """The layers whose attention was not left out."""
    family = family_of(model.config.model_type)
    if ATTENTION not in family.sublayers:
        return list(range(len(numbers(model))))
    return [group.layer for group in groups if group.kind == ATTENTION]


def _width(groups: Sequence[Group]) -> int:
    return next(group.count for group in groups if group.kind == WIDTH)
