"""Artefacts of every kind behind one call, batch of arrays to logits."""

from pathlib import Path

from contenders.contender import facts_of
from tasks.modeling.inference import Forward, open_model


def open_artefact(directory: Path, threads: int) -> Forward:
    """Opens an artefact for so many threads; those of PyTorch are set for the process."""
    return OPENERS[facts_of(directory)["kind"]](directory, threads)


def _torchao(directory: Path, threads: int) -> Forward:
    from contenders.torchao import load

    return load(directory)


def _openvino(directory: Path, threads: int) -> Forward:
    from openvino import Core

    # LATENCY is OpenVINO's default hint; the number of threads is all that is set.
    options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = Core().compile_model(directory / "model.xml", "CPU", options).create_infer_request()
    return lambda batch: request.infer(batch)[0].copy()


OPENERS = {"onnx": open_model, "transformers": open_model, "torchao": _torchao, "openvino": _openvino}
