"""The report page, its pictures and its digest."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tasks.core.files import read_json, tree_hash, write_json
from tasks.recipe.load import read
from tasks.report import report

PICTURES = (
    "pareto", "throughput", "removed", "scores", "training", "importance", "sensitivity", "agreement",
)  # fmt: skip


def make(root: Path, out: Path) -> Path:
    out.mkdir()
    report(read(root / "params/pipeline.yaml"), root, out)
    return out


@pytest.fixture
def made(finished_run: Path) -> Path:
    return make(finished_run, finished_run / "report")


def change(path: Path, edit: Any) -> None:
    value = read_json(path)
    edit(value)
    write_json(path, value)


class Balance(HTMLParser):
    """Tags that were opened and not closed, or closed and not opened."""

    VOID = ("meta", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_page_is_whole_and_needs_nothing_else(made: Path) -> None:
    page = (made / "report.html").read_text(encoding="utf-8")
    parser = Balance()
    parser.feed(page)
    assert (parser.open, parser.wrong) == ([], [])
    links = set(re.findall(r"https?://[^\"' )<]+", page))
    assert links <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not re.search(r"<script|<link|@import|url\((?!#)|src=", page)
    assert page.count("<svg") == len(PICTURES)
    assert not re.search(r"#[0-9a-f]{6}", "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL)))


def test_every_identifier_is_used_once(made: Path) -> None:
    ids = re.findall(r'\bid="([^"]+)"', (made / "report.html").read_text(encoding="utf-8"))
    assert len(ids) == len(set(ids))


def test_pictures_are_there(made: Path) -> None:
    for name in PICTURES:
        with Image.open(made / f"{name}.png") as picture:
            assert picture.width > 1000


def test_same_run_same_bytes(finished_run: Path, made: Path) -> None:
    assert tree_hash(made) == tree_hash(make(finished_run, finished_run / "again"))


def test_digest(made: Path) -> None:
    facts = read_json(made / "report.json")
    assert facts["best"] == "pruned-dynamic"
    assert facts["met"] is False
    assert [check["name"] for check in facts["budget"]] == ["max_drop", "speedup_b1", "speedup_b32"]
    assert [entry["round"] for entry in facts["removed"]] == ["r1", "r2"]
    assert facts["removed"][0]["layers"][0] == {"layer": 0, "kind": "head", "kept": 9, "total": 12}
    assert list(facts["training"]) == ["dense", "r1", "r2", "student"]
    assert {model["name"] for model in facts["models"] if model["front"]} >= {"student-static", "dense-fp32"}


def test_lineage_notes_what_was_changed(finished_run: Path, made: Path) -> None:
    entries = read_json(made / "report.json")["lineage"]
    order = [entry["out"] for entry in entries]
    assert order.index("data/prepared") < order.index("models/dense") < order.index("models/cut/r1")
    assert order.index("models/quantized/student") < order.index("data/evaluate/test")
    assert not any(item["unchanged"] is False for entry in entries for item in entry["inputs"])
    change(finished_run / "models/dense/training.json", lambda value: value.update(curve=[]))
    again = read_json(make(finished_run, finished_run / "again") / "report.json")["lineage"]
    changed = {entry["out"] for entry in again for item in entry["inputs"] if item["unchanged"] is False}
    assert {"models/student", "data/scores/r1", "models/cut/r1"} <= changed


def test_names_from_data_are_escaped(finished_run: Path) -> None:
    def poison(value: Any) -> None:
        value["labels"] = ["<script>alert(1)</script>", "fresh"]
        value["source"]["uri"] = "<img src=x>"

    change(finished_run / "data/prepared/data.json", poison)
    page = (make(finished_run, finished_run / "out") / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "<img" not in page


def test_a_run_without_student_rounds_or_times(finished_run: Path) -> None:
    def few(value: Any) -> None:
        value["models"] = {name: value["models"][name] for name in ("dense", "dense-fp32") if name in value["models"]}

    change(finished_run / "data/evaluate/test/quality.json", few)
    change(finished_run / "data/times/test/times.json", lambda value: value.update(models={}))
    for path in [
        *finished_run.glob("data/scores/*/*.safetensors"),
        *finished_run.glob("models/cut/*/plan.json"),
        *finished_run.glob("models/**/training.json"),
    ]:
        path.unlink()
    page = (make(finished_run, finished_run / "out") / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 0
    assert "No model is both faster than dense and within 0.020" in page


def test_the_best_is_chosen_on_validation_and_judged_on_test(finished_run: Path) -> None:
    def worse_on_test(value: Any) -> None:
        value["models"]["pruned-dynamic"].update(drop=0.03, drop_low=0.01, drop_high=0.05)
        value["models"]["pruned-static"].update(drop=-0.01, drop_low=-0.02, drop_high=0.0)

    change(
        finished_run / "data/times/test/times.json", lambda value: value["models"]["pruned-static"].update(speedup_b1=9)
    )
    change(finished_run / "data/evaluate/test/quality.json", worse_on_test)
    facts = read_json(make(finished_run, finished_run / "out") / "report.json")
    assert facts["best"] == "pruned-dynamic"
    assert facts["met"] is False
    assert facts["budget"][0] == {"name": "max_drop", "limit": 0.02, "reached": 0.03, "met": False}
    assert "loss of quality is 0.030 (asked: at most 0.020)" in facts["verdict"]


def test_no_model_keeps_the_quality(finished_run: Path) -> None:
    def worse(value: Any) -> None:
        for facts in value["models"].values():
            facts["validation_drop"] = 0.5

    change(finished_run / "data/evaluate/test/quality.json", worse)
    out = make(finished_run, finished_run / "out")
    assert read_json(out / "report.json")["best"] is None
    assert "no model stays within 0.020" in (out / "report.html").read_text(encoding="utf-8")


def test_early_exits_say_where_rows_left(finished_run: Path) -> None:
    validation = {"drop": 0.0041, "drop_low": -0.002, "drop_high": 0.011}
    facts = {"layers": [2, 6], "thresholds": [0.874], "left": [492, 1476], "mean_layers": 5.0, "validation": validation}

    def add(found: Any) -> None:
        found["models"]["pruned-dynamic"]["exits"] = {**facts, "max_drop": 0.005}

    change(finished_run / "data/evaluate/test/quality.json", add)
    out = make(finished_run, finished_run / "report")
    page = (out / "report.html").read_text(encoding="utf-8")
    section = re.search(r'<section id="exits">.*?</section>', page, re.DOTALL)
    assert section
    for words in ("pruned-dynamic", "+0.004", "−0.002 to +0.011", "2: 25.0 %", "≥ 0.874", "6: 75.0 %", "5.00", "0.005"):
        assert words in section[0]
