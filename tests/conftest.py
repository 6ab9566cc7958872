"""A workspace as a finished run leaves it, with made-up figures: for the report, status and whatever reads a run."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from tasks.core.files import tree_hash, write_json
from tasks.recipe.load import dump, resolve

LAYERS, HEADS, NEURONS = 6, 12, 1536
# name: stage, format, quality, million parameters, MFLOPs, ms at batch 1, rows/s at batch 32
MODELS = {
    "dense": ("train", "pytorch", 0.842, 22.7, 1360, 9.8, 310),
    "r1": ("finetune", "pytorch", 0.839, 19.5, 950, 8.1, 430),
    "r2": ("finetune", "pytorch", 0.831, 16.9, 610, 6.9, 640),
    "student": ("distill", "pytorch", 0.825, 17.4, 690, 5.1, 600),
    "dense-fp32": ("quantize", "onnx", 0.842, 22.7, 1360, 3.8, 440),
    "dense-dynamic": ("quantize", "onnx", 0.840, 22.7, 1360, 2.9, 720),
    "dense-static": ("quantize", "onnx", 0.833, 22.7, 1360, 2.6, 780),
    "pruned-fp32": ("quantize", "onnx", 0.831, 16.9, 610, 2.2, 910),
    "pruned-dynamic": ("quantize", "onnx", 0.829, 16.9, 610, 1.7, 1480),
    "pruned-static": ("quantize", "onnx", 0.818, 16.9, 610, 1.6, 1590),
    "student-fp32": ("quantize", "onnx", 0.825, 17.4, 690, 2.0, 860),
    "student-dynamic": ("quantize", "onnx", 0.823, 17.4, 690, 1.5, 1400),
    "student-static": ("quantize", "onnx", 0.801, 17.4, 690, 1.4, 1500),
}


def path_of(name: str) -> str:
    base, _, method = name.partition("-")
    if method:
        return f"models/quantized/{base}/{method}"
    return f"models/{name}" if base in ("dense", "student") else f"models/rounds/{name}"


def training(epochs: int, start: float, end: float, quality: float) -> dict[str, Any]:
    steps = 60 * epochs
    noise = np.random.default_rng(epochs).normal(0, 0.02, steps)
    curve = [
        {
            "step": step + 1,
            "epoch": (step + 1) / 60,
            "loss": float(end + (start - end) * math.exp(-3 * step / steps) + noise[step]),
        }
        for step in range(0, steps, 5)
    ]
    validation = [
        {"epoch": epoch + 1, "quality": quality - 0.02 * (epochs - epoch - 1), "loss": end + 0.05}
        for epoch in range(epochs)
    ]
    return {"curve": curve, "validation": validation, "best_epoch": epochs}


def split(rows: int) -> dict[str, Any]:
    return {
        "rows": rows,
        "classes": {"rotten": rows // 2, "fresh": rows - rows // 2},
        "tokens": {"mean": 27.4, "p50": 27, "p95": 47, "max": 64},
        "characters": {"mean": 119.2, "p50": 118, "p95": 204, "max": 265},
        "truncated": rows // 400,
    }


class Run:
    """Writes the outs of a run below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def publish(self, out: str, stage: str, inputs: list[str], **files: Any) -> None:
        directory = self.root / out
        directory.mkdir(parents=True, exist_ok=True)
        for name, value in files.items():
            write_json(directory / f"{name}.json", value)
        write_json(
            directory / "provenance.json",
            {
                "stage": stage,
                "params": {},
                "inputs": {path: tree_hash(self.root / path) for path in inputs},
                "code": {"tasks/core": "0" * 64},
                "packages": {"torch": "2.13.0+cpu", "transformers": "5.17.0", "onnxruntime": "1.31.0"},
                "python": "3.11.2",
                "seed": 0,
                "device": "cpu",
                "out": out,
            },
        )

    def score(self, name: str, model: str, counts: list[tuple[int, int]], seed: int) -> None:
        generator = np.random.default_rng(seed)
        vectors = {}
        for layer, (heads, neurons) in enumerate(counts):
            vectors[f"head.{layer}"] = generator.lognormal(-7 + 0.3 * layer, 1.1, heads).astype(np.float32)
            vectors[f"neuron.{layer}"] = generator.lognormal(-12 + 0.2 * layer, 1.4, neurons).astype(np.float32)
        out = self.root / f"data/scores/{name}"
        out.mkdir(parents=True)
        save_file(vectors, out / "scores.safetensors")
        if name == "r1":
            self.compare(name)
        self.publish(f"data/scores/{name}", f"score@{name}", [model, "data/prepared"])

    def plan(
        self, name: str, before: list[tuple[int, int]], kept: list[tuple[int, int]], allocation: str
    ) -> dict[str, Any]:
        groups, vectors = [], load_file(self.root / f"data/scores/{name}/scores.safetensors")
        threshold = {"head": 0.18, "neuron": 0.012}
        for layer, (had, stay) in enumerate(zip(before, kept, strict=True)):
            for number, (kind, dense) in enumerate((("head", HEADS), ("neuron", NEURONS))):
                scores = vectors[f"{kind}.{layer}"]
                groups.append(
                    {
                        "name": f"{kind}.{layer}",
                        "layer": layer,
                        "kind": kind,
                        "before": dense,
                        "kept": list(range(stay[number])),
                        "removed": list(range(stay[number], had[number])),
                        "removed_scores": scores[stay[number] :].tolist(),
                        "divisor": float(np.linalg.norm(scores)),
                        "lowest_kept": threshold[kind] * 1.01,
                        "highest_removed": threshold[kind] * 0.98,
                    }
                )
        curves = {
            f"head.{layer}": {str(count): 0.04 * (layer + 1) * (1 - count / had) ** 2 for count in range(1, had + 1, 2)}
            for layer, (had, _) in enumerate(before)
        }
        return {
            "goal": {"head": {"share": 0.3}, "neuron": {"share": 0.3}},
            "criterion": "fisher",
            "allocation": allocation,
            "unselected": "remove",
            "threshold": threshold,
            "sensitivity": curves if allocation == "sensitivity" else {},
            "errors": {f"bert.encoder.layer.{layer}.output.dense.weight": 0.01 * layer for layer in range(LAYERS)},
            "layers": list(range(LAYERS)),
            "groups": groups,
            "weights": [],
        }

    def compare(self, name: str) -> None:
        """Scores of the round by three criteria: its own, one that agrees, one that does not."""
        vectors = load_file(self.root / f"data/scores/{name}/scores.safetensors")
        generator = np.random.default_rng(5)
        found = {f"fisher/{key}": values for key, values in vectors.items()}
        found |= {f"obs/{key}": values**2 for key, values in vectors.items()}
        found |= {f"random/{key}": generator.random(len(v)).astype(np.float32) for key, v in vectors.items()}
        save_file(found, self.root / f"data/scores/{name}/compare.safetensors")

    def examples(self) -> None:
        """Test texts, and what each model says of them: 200 of the 1968."""
        generator = np.random.default_rng(7)
        label = generator.integers(0, 2, 200)
        right = {name: generator.random(200) < facts[2] for name, facts in MODELS.items()}
        said = {name: np.where(hit, label, 1 - label) for name, hit in right.items()}
        texts = [f"a film, the {number}th of all" for number in range(200)]
        pq.write_table(pa.table({"text": texts, "label": label}), self.root / "data/prepared/test.parquet")
        (self.root / "data/evaluate/test").mkdir(parents=True)
        pq.write_table(pa.table({"label": label, **said}), self.root / "data/evaluate/test/predictions.parquet")

    def verdict(self, name: str, state: str, because: str, quality: float, parameters: int) -> dict[str, Any]:
        facts = {"round": name, "state": state, "because": because, "quality": quality, "dense_quality": 0.8455}
        return {**facts, "drop": 0.8455 - quality, "parameters": parameters, "flops": 4 * parameters}

    def quality(self) -> dict[str, Any]:
        models = {}
        for name, (stage, form, quality, millions, flops, _, _) in MODELS.items():
            drop = 0.842 - quality
            models[name] = {
                "stage": stage,
                "path": path_of(name),
                "checkpoint": path_of({"pruned": "r2"}.get(name.partition("-")[0], name.partition("-")[0])),
                "format": form,
                "quality": quality,
                "quality_low": quality - 0.016,
                "quality_high": quality + 0.016,
                "drop": drop,
                "drop_low": drop - (0.009 if name != "dense" else 0),
                "drop_high": drop + (0.009 if name != "dense" else 0),
                "validation_quality": quality + 0.0035,
                "validation_drop": drop,
                "parameters": int(millions * 1e6),
                "bytes": int(millions * 1e6 * (4 if name.endswith("fp32") or form == "pytorch" else 1.2)),
                "flops": flops * 10**6,
            }
        return {"metric": "accuracy", "rows": 1968, "models": models, "pruned": "r2"}

    def times(self) -> dict[str, Any]:
        models = {}
        for name, (_, form, _, millions, _, latency, rows) in MODELS.items():
            models[name] = {
                "latency_ms_b1": latency,
                "latency_ms_b1_p95": latency * 1.18,
                "throughput_b32": float(rows),
                "speedup_b1": 9.8 / latency,
                "speedup_b32": rows / 310,
                "peak_memory": int((380 if form == "pytorch" else 120) * 1e6 + millions * 4e6),
            }
        return {"threads": 2, "models": models}


@pytest.fixture
def finished_run(tmp_path: Path) -> Path:
    """The workspace of a run with three rounds, the third passed through."""
    run, root = Run(tmp_path), tmp_path
    (root / "params").mkdir()
    budget = "budget={max_drop: 0.02, speedup_b1: 5, speedup_b32: 5, max_flops: null}"
    recipe = resolve(None, [budget, "prune.rounds=[0.3,0.55,0.7]", "prune.normalize=true"])
    (root / "params/pipeline.yaml").write_text(dump(recipe), encoding="utf-8")
    data = {
        "labels": ["rotten", "fresh"],
        "splits": {"train": split(15744), "validation": split(1968), "test": split(1968)},
        "source": {"uri": recipe.data.source, "sha256": "b4d0c48ae0ae" * 5 + "b4d0", "rows": 21094},
        "dropped": {"other labels": 1092, "empty": 0, "duplicates": 322},
        "overlap": {"train and validation": 0, "train and test": 0, "validation and test": 0},
    }
    (root / "data/prepared").mkdir(parents=True)
    run.examples()
    run.publish("data/prepared", "prepare", [], data=data)
    run.publish("models/dense", "train", ["data/prepared"], training=training(2, 0.69, 0.28, 0.8455))
    run.publish("data/teacher", "train", ["data/prepared"])
    kept = {
        "r1": [(9, 1240), (8, 1160), (10, 1104), (9, 1056), (7, 984), (7, 904)],
        "r2": [(6, 880), (5, 760), (8, 712), (7, 640), (4, 600), (2, 552)],
    }
    before, model, after = [(HEADS, NEURONS)] * LAYERS, "models/dense", "data/teacher"
    for number, name in enumerate(("r1", "r2")):
        run.score(name, model, before, number)
        plan = run.plan(name, before, kept[name], ("global", "sensitivity")[number])
        run.publish(f"models/cut/{name}", f"prune@{name}", [model, f"data/scores/{name}"], plan=plan)
        inputs = [f"models/cut/{name}", "data/prepared", "data/teacher"]
        curves = training(1, 0.5 - 0.05 * number, 0.36, 0.842 - 0.008 * number)
        run.publish(f"models/rounds/{name}", f"finetune@{name}", inputs, training=curves)
        state = ("continue", "the drop of 0.001 is within 0.02") if name == "r1" else ("met", "every limit is met")
        verdict = run.verdict(name, *state, 0.844 - 0.008 * number, 19_500_000 - 2_600_000 * number)
        run.publish(f"data/rounds/{name}", f"evaluate@{name}", [f"models/rounds/{name}", after], verdict=verdict)
        before, model, after = kept[name], f"models/rounds/{name}", f"data/rounds/{name}"
    passed = {"because": "round r2 met the budget"}
    for out, stage in (("data/scores", "score"), ("models/cut", "prune"), ("models/rounds", "finetune")):
        run.publish(f"{out}/r3", f"{stage}@r3", ["models/rounds/r2"], passed=passed)
    verdict = run.verdict("r3", "passed", "round r2 met the budget", 0.836, 16_900_000)
    run.publish("data/rounds/r3", "evaluate@r3", ["models/rounds/r3"], verdict=verdict)
    run.publish("models/student", "distill", ["models/dense", "data/prepared"], training=training(2, 0.62, 0.33, 0.831))
    for name, inputs in (
        ("dense", ["models/dense"]),
        ("pruned", ["models/rounds", "data/rounds"]),
        ("student", ["models/student"]),
    ):
        run.publish(f"models/quantized/{name}", f"quantize@{name}", inputs)
    run.publish("data/evaluate/test", "evaluate@test", ["models", "data/prepared"], quality=run.quality())
    run.publish("data/times/test", "evaluate@test", ["models", "data/prepared"], times=run.times())
    return root
