"""NNCF: static int8 after training and by quantization-aware training, in OpenVINO and in ONNX Runtime."""

import os
from pathlib import Path
from typing import Any

import torch

from contenders import ort
from contenders.contender import Contender, Job, describe
from contenders.recovery import cross_entropy, recover, without_dropout
from contenders.rows import loader, singly
from contenders.settings import RATE

CALIBRATION = 300
"""Rows: its default `subset_size`, one by one, as it asks of transformers."""


def make(job: Job) -> None:
    """`ptq-ort`, `ptq-openvino`, `qat-openvino`."""
    torch.manual_seed(job.seed)
    {"ptq-ort": _graph, "ptq-openvino": _openvino, "qat-openvino": _trained}[job.point](job)


def _graph(job: Job) -> None:
    import onnx

    raw = job.scratch / "raw.onnx"
    ort.export(ort.load(job.dense), raw)
    onnx.save(_quantized(onnx.load(raw), job), job.out / ort.GRAPH)
    describe(job.out, "onnx", [ort.GRAPH], steps=0)


def _openvino(job: Job) -> None:
    _save(_quantized(_exact(ort.load(job.dense)), job), job.out, steps=0)


def _trained(job: Job) -> None:
    # It compiles its quantizers first, for a minute; a build that was cut off left a lock it would wait for.
    os.environ |= {"NNCF_EXTENSION_LOAD_TIMEOUT": "0", "TORCH_EXTENSIONS_DIR": str((job.scratch / "built").resolve())}
    model = ort.load(job.dense)
    without_dropout(model)
    model = _quantized(model, job)
    recover(model, loader(job.prepared, job.seed), job.steps, cross_entropy(), rate=RATE / 10, mixed=False)
    _save(_converted(model), job.out, steps=job.steps)


def _quantized(model: Any, job: Job) -> Any:
    import nncf

    rows = singly(job.prepared, CALIBRATION, job.seed)
    tensors = isinstance(model, torch.nn.Module)
    data = [{name: torch.from_numpy(array) for name, array in row.items()} for row in rows] if tensors else rows
    return nncf.quantize(model, nncf.Dataset(data), model_type=nncf.ModelType.TRANSFORMER, subset_size=CALIBRATION)


def _converted(model: Any) -> Any:
    import openvino

    shape = torch.ones(2, 8, dtype=torch.int64)
    example = {"input_ids": shape, "attention_mask": shape}
    inputs = [(name, openvino.PartialShape([-1, -1]), openvino.Type.i64) for name in example]
    return openvino.convert_model(model, example_input=example, input=inputs)


def _exact(model: Any) -> Any:
    """The converted model, once it is shown to say what `model` says where OpenVINO computes in float32."""
    import openvino

    converted = _converted(model)
    request = openvino.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    ort.agrees(model, lambda batch: request.infer(batch)[0])
    return converted


def _save(model: Any, out: Path, steps: int) -> None:
    import openvino

    openvino.save_model(model, out / "model.xml")
    describe(out, "openvino", ["model.xml", "model.bin"], steps=steps)


CONTENDER = Contender(
    name="nncf",
    points=("ptq-ort", "ptq-openvino", "qat-openvino"),
    packages=("nncf", "openvino", "onnxruntime"),
    settings=(
        "nncf.quantize, ModelType.TRANSFORMER, 300 training rows one by one; of the exported graph for ONNX Runtime, "
        "of the converted model for OpenVINO (its own runtime), and of the PyTorch model, then trained on the true "
        "labels at 1e-5 without dropout, for OpenVINO; it prunes single weights alone, which gains no speed"
    ),
    make=make,
)
