"""The plain way: keep some of the layers, distil the dense model into them, ONNX Runtime int8."""

from typing import Any

import torch

from contenders import ort
from contenders.contender import Contender, Job
from contenders.recovery import distillation, recover, without_dropout
from contenders.rows import loader

KEPT = {"4": (0, 2, 3, 5), "3": (0, 2, 5), "2": (0, 5)}
RATE = 2.0e-4
"""That of the quickstart's student."""


def make(job: Job) -> None:
    """A student of some layers of the dense model."""
    torch.manual_seed(job.seed)
    teacher = ort.load(job.dense)
    student = shallow(ort.load(job.dense), KEPT[job.point])
    without_dropout(student)
    loss = distillation(teacher, temperature=2.0, alpha=0.5)
    recover(student, loader(job.prepared, job.seed), job.steps, loss, rate=RATE)
    ort.deliver(student, job.out, steps=job.steps)


def shallow(model: Any, kept: tuple[int, ...]) -> Any:
    """`model` with the given layers only."""
    model.bert.encoder.layer = torch.nn.ModuleList(model.bert.encoder.layer[i] for i in kept)
    model.config.num_hidden_layers = len(kept)
    return model


CONTENDER = Contender(
    name="layers",
    points=tuple(KEPT),
    packages=("torch", "onnxruntime"),
    settings=(
        "layers 0 2 3 5, 0 2 5 or 0 5 of the dense model; AdamW 2e-4, warmup 10 %, linear to 0, no dropout; loss "
        "half true labels, half the dense model's logits at T 2; then as ort int8"
    ),
    make=make,
    from_int8=True,
)
