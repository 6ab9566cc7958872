"""torchao: int8 in PyTorch, as it is and compiled by Inductor."""

from pathlib import Path
from typing import Any

import torch

from contenders import ort
from contenders.contender import Contender, Job, describe, facts_of
from tasks.modeling.inference import Forward

WEIGHTS = "quantized.pt"


def make(job: Job) -> None:
    """The dense model, not trained any further."""
    from torchao.quantization import quantize_

    model = ort.load(job.dense)
    quantize_(model, config(job.point))
    torch.save(model.state_dict(), job.out / WEIGHTS)
    model.config.save_pretrained(job.out)
    describe(job.out, "torchao", [WEIGHTS], steps=0, compiled=job.point.endswith("-compiled"))


def config(point: str) -> Any:
    """That of `weight-only` and of `dynamic`, the activations quantized per token."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig

    return Int8WeightOnlyConfig() if point.startswith("weight-only") else Int8DynamicActivationInt8WeightConfig()


def load(directory: Path) -> Forward:
    """Opens an artefact; a compiled one is compiled here, for any number of rows and any length."""
    import torchao.quantization  # noqa: F401  # registers what torch.load may unpickle
    from transformers import AutoConfig, AutoModelForSequenceClassification

    settings = AutoConfig.from_pretrained(directory)
    model = AutoModelForSequenceClassification.from_config(settings).eval()
    model.load_state_dict(torch.load(directory / WEIGHTS, weights_only=True), assign=True)
    compiled = facts_of(directory)["compiled"]
    run = torch.compile(model, mode="max-autotune", dynamic=True) if compiled else model

    def forward(batch: Any) -> Any:
        with torch.inference_mode():
            return run(**{name: torch.from_numpy(array) for name, array in batch.items()}).logits.float().numpy()

    return forward


CONTENDER = Contender(
    name="torchao",
    points=("weight-only", "dynamic", "dynamic-compiled"),
    packages=("torchao", "torch"),
    settings=(
        "quantize_ of the dense model: Int8WeightOnlyConfig, Int8DynamicActivationInt8WeightConfig (per token and per "
        "channel), and the latter under torch.compile(mode max-autotune, dynamic shapes)"
    ),
    make=make,
)
