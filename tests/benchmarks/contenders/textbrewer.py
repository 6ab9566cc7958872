"""TextBrewer: a shallower student by its GeneralDistiller, then ONNX Runtime int8."""

import logging
import tempfile
from typing import Any

import torch
from transformers import get_linear_schedule_with_warmup

from contenders import ort
from contenders.contender import Contender, Job
from contenders.layers import KEPT, shallow
from contenders.recovery import precision
from contenders.rows import loader

RATE = 1.0e-4
TEMPERATURE = 8


def make(job: Job) -> None:
    """A student of some layers of the dense model."""
    from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig

    torch.manual_seed(job.seed)
    logging.getLogger("Distillation").setLevel(logging.WARNING)
    teacher, student = ort.load(job.dense), shallow(ort.load(job.dense), KEPT[job.point])
    teacher.eval()
    student.train()
    with tempfile.TemporaryDirectory() as directory:
        distiller = GeneralDistiller(
            train_config=TrainingConfig(output_dir=directory, log_dir=None, device="cpu", ckpt_steps=job.steps),
            distill_config=DistillationConfig(temperature=TEMPERATURE),
            model_T=teacher, model_S=student, adaptor_T=_adaptor, adaptor_S=_adaptor,
        )  # fmt: skip
        warmup = {"num_warmup_steps": round(0.1 * job.steps), "num_training_steps": job.steps}
        with distiller, precision(steps=True):
            distiller.train(
                torch.optim.AdamW(student.parameters(), lr=RATE), loader(job.prepared, job.seed),
                scheduler_class=get_linear_schedule_with_warmup, scheduler_args=warmup,
                max_grad_norm=1.0, num_steps=job.steps,
            )  # fmt: skip
    ort.deliver(student, job.out, steps=job.steps)


def _adaptor(batch: Any, outputs: Any) -> dict[str, Any]:
    return {"logits": outputs.logits.float()}  # at temperature 8 bfloat16 has no digits left


CONTENDER = Contender(
    name="textbrewer",
    points=tuple(KEPT),
    packages=("textbrewer", "onnxruntime"),
    settings=(
        "students of the layers as `layers`; GeneralDistiller, temperature 8, losses at their defaults (the teacher's "
        "logits alone), AdamW 1e-4, warmup 10 %, linear to 0; then as ort int8"
    ),
    make=make,
    from_int8=True,
)
