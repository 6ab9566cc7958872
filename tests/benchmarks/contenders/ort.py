"""ONNX Runtime as its documentation advises for transformers: export, fuse, dynamic int8.

The graph comes from PyTorch's TorchScript exporter and eager attention, which is what the fusions of
onnxruntime.transformers.optimizer know: with them every attention, the embeddings and every skip and norm are fused;
with the newer exporter, or with scaled_dot_product_attention, no attention is (ONNX Runtime 1.31).
"""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from contenders.contender import Contender, Job, describe
from tasks.modeling.inference import Forward

INPUTS = ("input_ids", "attention_mask")
GRAPH = "model.onnx"


def make(job: Job) -> None:
    """The dense model, not trained any further."""
    deliver(load(job.dense), job.out, int8=job.point == "int8")


def load(checkpoint: Path) -> Any:
    """The model in `checkpoint` with the attention that the fusions know."""
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(checkpoint, attn_implementation="eager").eval()


def deliver(model: Any, out: Path, *, int8: bool = True, steps: int = 0) -> None:
    """Writes the fused graph of a BERT, whose layers all have the same heads, as an artefact."""
    from onnx import TensorProto
    from onnxruntime import InferenceSession
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.optimizer import optimize_model

    attention = model.bert.encoder.layer[0].attention.self
    with tempfile.TemporaryDirectory() as directory:
        raw, fused = Path(directory) / "raw.onnx", Path(directory) / "fused.onnx"
        export(model, raw)
        heads = attention.num_attention_heads
        optimized = optimize_model(str(raw), "bert", num_heads=heads, hidden_size=attention.all_head_size)
        optimized.save_model_to_file(str(fused))
        session = InferenceSession(str(fused), providers=["CPUExecutionProvider"])
        agrees(model, lambda batch: session.run(None, batch)[0])
        if int8:
            options = {"DefaultTensorType": TensorProto.FLOAT}  # as its error message asks: fused shapes are unknown
            quantize_dynamic(
                fused, out / GRAPH, per_channel=True, weight_type=QuantType.QInt8, extra_options=options
            )  # fmt: skip
        else:
            (out / GRAPH).write_bytes(fused.read_bytes())
        fusions = {name: count for name, count in optimized.get_fused_operator_statistics().items() if count}
    describe(out, "onnx", [GRAPH], steps=steps, fusions=fusions)


class _Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits  # type: ignore[no-any-return]


def export(model: nn.Module, path: Path) -> None:
    """The graph as PyTorch exports it."""
    model.eval()
    axes = {name: {0: "rows", 1: "length"} for name in INPUTS}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Logits(model).eval(), _example(2, 8), str(path), dynamo=False, opset_version=17,
            input_names=list(INPUTS), output_names=["logits"], dynamic_axes={**axes, "logits": {0: "rows"}},
        )  # fmt: skip


def _example(rows: int, length: int) -> tuple[Tensor, Tensor]:
    ids = torch.randint(1000, 2000, (rows, length), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, length // 2 :] = 0
    return ids, mask


def agrees(model: nn.Module, run: Forward) -> None:
    """Refuses a float32 graph that says something else than its model, on another shape than it was exported with."""
    example = _example(3, 11)
    said = run({name: tensor.numpy() for name, tensor in zip(INPUTS, example, strict=True)})
    with torch.no_grad():
        meant = _Logits(model)(*example).numpy()
    if not np.allclose(said, meant, atol=1e-3):
        raise RuntimeError(f"the exported graph differs from the model by {np.abs(said - meant).max():.3g}")


CONTENDER = Contender(
    name="ort",
    points=("fp32", "int8"),
    packages=("onnxruntime", "onnx"),
    settings=(
        "the dense model; TorchScript export at opset 17, onnxruntime.transformers.optimizer (model_type bert, heads "
        "and width given); int8: quantize_dynamic on the fused graph, QInt8 weights per channel"
    ),
    make=make,
)
